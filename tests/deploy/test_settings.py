"""`deploy.sh --set`: which settings, with which values, and their way into the services."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from deploy import settings
from deploy.refusal import Refusal
from tests.deploy.conftest import ROOT, MotoCloud
from tests.deploy.test_refusals import ALLOW, refusal_of
from tests.deploy.test_stack import user_data
from tests.deploy.test_start import START

pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse")


def chosen(aws: MotoCloud) -> dict[str, str]:
    """Return the settings in the stack's parameter."""
    [stack] = aws.client("cloudformation").describe_stacks(StackName="docker-job")["Stacks"]
    values = {each["ParameterKey"]: each["ParameterValue"] for each in stack["Parameters"]}
    found: dict[str, str] = json.loads(values["Settings"])
    return found | {"MAX_LIFETIME_SECONDS": values["MaxLifetimeSeconds"]}


def test_settings_reach_the_instance_and_survive_updates(aws: MotoCloud) -> None:
    given = ("CAPACITY=spot_then_on_demand", "DOCKER_JOB_EC2_VCPUS=4", "MAX_LIFETIME_SECONDS=7200")
    run = aws.deploy(*ALLOW, *(word for each in given for word in ("--set", each)))
    assert run.returncode == 0, run.stderr
    assert "Settings: CAPACITY=spot_then_on_demand, EC2_VCPUS=4" in run.stdout
    script = user_data(aws)
    assert '{"CAPACITY":"spot_then_on_demand","EC2_VCPUS":"4"}\nSETTINGS_JSON\n' in script
    assert "DOCKER_JOB_MAX_LIFETIME_SECONDS=7200\n" in script
    update = aws.deploy("--set", "CAPACITY=", "--set", "EC2_SESSION_MANAGER=on")
    assert update.returncode == 0, update.stderr
    assert chosen(aws) == {
        "EC2_VCPUS": "4",
        "EC2_SESSION_MANAGER": "on",
        "MAX_LIFETIME_SECONDS": "7200",
    }
    [stack] = aws.client("cloudformation").describe_stacks(StackName="docker-job")["Stacks"]
    on = {"ParameterKey": "SessionManager", "ParameterValue": "on"}
    assert on in stack["Parameters"], "the role of job instances gets Session Manager's permissions"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("CAPACITY", "has no value: write it as"),
        ("CAPACTIY=spot", "no setting DOCKER_JOB_CAPACTIY. Did you mean CAPACITY?"),
        ("CAPACITY=cheap", "DOCKER_JOB_CAPACITY is 'cheap': it must be one of"),
        ("EC2_VCPUS=many", "DOCKER_JOB_EC2_VCPUS is 'many': it must be a number"),
        ("EC2_SUBNETS=subnet-1", "use --job-subnets"),
        ("EC2_IMAGE_ID=ami-1", "use --ami"),
        ("DOCKER_JOB_DEPLOYMENT=x", "use --stack"),
        ("TOKEN_KEY=0", "secrets are not settings of a stack"),
        ("POSTGRES_PASSWORD_FILE=/x", "secrets are not settings of a stack"),
        ("NETWORK_POOL=10.0.0.0/8", "has no effect on EC2"),
        ("TIMEZONE=a\nb", "must be one line of printable characters"),
        ("MAX_LIFETIME_SECONDS=1", "DOCKER_JOB_MAX_LIFETIME_SECONDS is 1: it must be from 60"),
    ],
)
def test_a_bad_setting_is_refused_before_anything_is_made(given: str, text: str) -> None:
    with pytest.raises(Refusal, match=re.escape(text)):
        settings.refuse_bad(settings.merge({}, [given]), "us-east-1")


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(Refusal, match="CloudFormation keeps 4096"):
        settings.write({"ALLOWED_HOSTS": "a" * 4096})


def test_every_setting_of_the_docs_can_be_given() -> None:
    table = (ROOT / "docs" / "ec2.md").read_text().partition("## Settings")[2].partition("\n## ")[0]
    names = {
        name
        for row in table.splitlines()
        if row.startswith("| `")
        for name in re.findall(r"`([A-Z][A-Z0-9_]+)`", row.split("|")[1])
    }
    assert len(names) > 15
    assert names <= settings.known() | set(settings.PARAMETERS)
    options = {name for name in names if name in settings.STACKS_OWN}
    assert names - options - set(settings.OF_A_SHARED_ENGINE) == names - options


@pytest.mark.parametrize("value", ["a'b\"c $(id) `id` \\ {}", "${HOME}", "x; exit 1", "ä€"])
def test_a_value_is_never_evaluated_on_the_instance(tmp_path: Path, value: str) -> None:
    file = tmp_path / "settings.json"
    file.write_text(settings.write({"TIMEZONE": value, "X$(id)": "y"}))
    script = f'source "{START}"; load_chosen_settings; printf %s "$DOCKER_JOB_TIMEZONE"'
    run = subprocess.run(
        ["bash", "-c", script],
        env={"SETTINGS_FILE": str(file), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout) == (0, value), run.stderr


def test_settings_that_are_no_json_stop_the_start(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text("{nonsense}")
    run = subprocess.run(
        ["bash", "-c", f'source "{START}"; load_chosen_settings; echo on'],
        env={"SETTINGS_FILE": str(tmp_path / "settings.json"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode != 0
    assert "on" not in run.stdout


def test_an_image_is_checked_and_kept(aws: MotoCloud) -> None:
    assert "There is no image ami-0" in refusal_of(aws.deploy(*ALLOW, "--ami", "ami-00000000"))
    ec2 = aws.client("ec2")
    [image] = [
        each
        for each in ec2.describe_images()["Images"]
        if each["Architecture"] == "x86_64" and each["State"] == "available"
    ][:1]
    made = image["ImageId"]
    wrong = aws.deploy(*ALLOW, "--dry-run", "--ami", made, "--set", "EC2_ARCHITECTURE=arm64")
    assert f"The image {made} is for x86_64, and EC2_ARCHITECTURE is arm64" in refusal_of(wrong)
    run = aws.deploy(*ALLOW, "--ami", made)
    assert run.returncode == 0, run.stderr
    assert chosen(aws)["EC2_IMAGE_ID"] == made
    assert aws.deploy("--ami", "default").returncode == 0
    assert "EC2_IMAGE_ID" not in chosen(aws)


@pytest.mark.parametrize("name", sorted(settings.STACKS_OWN))
def test_to_remove_what_the_stack_decides_is_harmless(name: str) -> None:
    assert settings.merge({"CAPACITY": "spot"}, [f"{name}="]) == {"CAPACITY": "spot"}
    with pytest.raises(Refusal, match="is for the stack to decide"):
        settings.merge({}, [f"{name}=x"])
