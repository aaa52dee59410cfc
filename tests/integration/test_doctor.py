"""`make doctor` on the strict cloud: all is well, and each fault is found by its own check."""

import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from operations.doctor import report
from operations.doctor.checks.machine import note_disk
from operations.wiring import TOPOLOGY
from rehearsal.account import POLICIES, ROLE
from shared.bus.rabbitmq import declare_topology
from shared.compute.ec2.doctor.permissions import CHANGING
from shared.findings import FindingGroup
from shared.url import with_login
from tests.support.compute import doctor_faults
from tests.support.compute.doctor_faults import FAULTS, Fault
from tests.support.compute.doctor_judged_faults import JUDGED_FAULTS
from tests.support.compute.doctor_more_faults import MORE_FAULTS
from tests.support.compute.doctor_names import any_fits, names_of_checks
from tests.support.compute.doctor_world import DEPLOYMENT, DoctorWorld
from tests.support.servers.rabbitmq_kinds import RabbitServer
from tests.support.servers.rabbitmq_server import fresh_vhost

ROOT = Path(__file__).parents[2]
ALL_FAULTS = (*FAULTS, *MORE_FAULTS, *JUDGED_FAULTS)
LAUNCH = ("ec2:RunInstances", "ec2:CreateTags", "iam:PassRole")
LAUNCHERS_MIB = 192
"""As in compose.yaml."""
READS = re.compile(r"Describe|Decode|Get|List|ReceiveMessage|TestEventPattern")


@pytest.fixture(scope="module")
async def world(shared_database: str) -> AsyncIterator[DoctorWorld]:
    """An installation that has launched once; every test leaves it as it was."""
    with pytest.MonkeyPatch.context() as environment:
        made = DoctorWorld(environment, shared_database)
        await made.launch()
        yield made
        made.close()


@pytest.fixture
def new_world(monkeypatch: pytest.MonkeyPatch, shared_database: str) -> Iterator[DoctorWorld]:
    made = DoctorWorld(monkeypatch, shared_database)
    yield made
    made.close()


async def test_a_healthy_installation_has_only_good_lines(world: DoctorWorld) -> None:
    found = await world.findings()
    assert [each for each in found.values() if each.status != "ok"] == []
    assert report.exit_status(list(found.values())) == 0


async def test_nothing_is_changed(world: DoctorWorld) -> None:
    templates = world.client("ec2").describe_launch_template_versions(
        LaunchTemplateName=f"docker-job-{DEPLOYMENT}"
    )["LaunchTemplateVersions"]
    before = len(world.calls())
    world.client("sqs").send_message(QueueUrl=world.account.queue_url, MessageBody="notice")
    await world.findings()
    made = world.calls()[before:]
    changing = {each.action for each in made if not READS.match(each.action)}
    assert changing == {each.partition(":")[2] for each in CHANGING} | {"DeleteMessage"}
    for each in made:
        if each.action == "DeleteMessage":
            assert each.outcome == "400"  # the handle is no message's
        elif each.action == "ReceiveMessage":
            assert each.params["VisibilityTimeout"] == 0
        elif not READS.match(each.action):
            assert each.params["DryRun"], each
            # A zone may lack the type of the first pool.
            assert each.outcome in ("DryRunOperation", "Unsupported"), each
    # The notice is there at once for the reaper.
    sqs = world.client("sqs")
    assert sqs.receive_message(QueueUrl=world.account.queue_url)["Messages"]
    assert len(templates) == 1


@pytest.mark.parametrize("fault", ALL_FAULTS, ids=lambda each: each.name)
async def test_each_fault_is_found_by_its_own_check(world: DoctorWorld, fault: Fault) -> None:
    with fault.make(world) as more:
        found = await world.findings(**{**fault.settings, **(more or {})})
    wrong = {each.name: each for each in found.values() if each.status != "ok"}
    assert {name: each.status for name, each in wrong.items()} == fault.found
    if not fault.found:
        return
    first = wrong[next(iter(fault.found))]
    assert fault.do in first.do
    assert fault.text in first.found


@pytest.mark.parametrize(
    ("action", "role"),
    [(action, role) for role, actions in doctor_faults.PERMISSIONS for action in actions],
)
async def test_each_missing_permission_is_found(world: DoctorWorld, action: str, role: str) -> None:
    with world.forbidden(action):
        found = await world.findings(role)
    assert found[action].status in doctor_faults.DENIED.get(action, {"fail"}), found[action]
    assert f"docs/iam/{role}.json" in found[action].do
    lines = {each.name for each in found.values() if each.status == "fail"}
    assert lines <= {action, *doctor_faults.FOLLOWS.get(action, ())}
    assert report.exit_status(list(found.values())) == 1


async def test_before_the_first_launch_what_depends_on_it_is_not_proven(
    new_world: DoctorWorld,
) -> None:
    found = await new_world.findings()
    skipped = {each.name for each in found.values() if each.status == "skip"}
    assert skipped == {
        *("ec2:RunInstances", "ec2:CreateTags", "iam:PassRole"),
        *("ec2:CreateLaunchTemplateVersion", "ec2:DeleteLaunchTemplateVersions"),
        *("ec2:ModifyLaunchTemplate", "ec2:TerminateInstances", "ec2:GetConsoleOutput"),
        "ec2:CancelSpotInstanceRequests",
    }
    assert found["ec2:CreateFleet"].status == "ok"
    assert "first launch" in found["ec2:RunInstances"].found
    assert report.exit_status(list(found.values())) == 0


async def test_before_the_first_launch_a_missing_permission_to_launch_is_found(
    new_world: DoctorWorld,
) -> None:
    with new_world.forbidden("ec2:CreateFleet"):
        found = await new_world.findings("launcher")
    assert found["ec2:CreateFleet"].status == "fail"
    # Whoever may launch without a template is shown to lack the role, or the tags.
    with new_world.allowed("ec2:RunInstances"):
        good = await new_world.findings("launcher")
        assert [good[each].status for each in LAUNCH] == ["ok", "ok", "ok"]
        for action in ("iam:PassRole", "ec2:CreateTags"):
            with new_world.forbidden(action):
                found = await new_world.findings("launcher")
            assert found[action].status == "fail", found[action]


async def test_every_subnet_is_tried(world: DoctorWorld) -> None:
    before = len(world.calls())
    await world.findings("launcher")
    tried = [each.params for each in world.calls()[before:] if each.action == "RunInstances"]
    default = [{"Name": "default-for-az", "Values": ["true"]}]
    shown = world.client("ec2").describe_subnets(Filters=default)["Subnets"]
    # us-east-1e has none of the types of a default job, so nothing is launched there.
    subnets = {each["SubnetId"] for each in shown if each["AvailabilityZone"] != "us-east-1e"}
    assert {each["SubnetId"] for each in tried} == subnets
    last = max(subnets)
    with world.forbidden("ec2:RunInstances", on=f"arn:aws:ec2:*:*:subnet/{last}"):
        found = await world.findings("launcher")
    assert found["ec2:RunInstances"].status == "fail"
    assert last in found["ec2:RunInstances"].found


async def test_the_services_own_policies_suffice_for_all_but_the_extra_checks(
    world: DoctorWorld,
) -> None:
    extra = json.loads((POLICIES / "doctor.json").read_text())["Statement"]
    actions = [action for each in extra for action in _many(each["Action"])]
    with world.forbidden(*actions):
        found = await world.findings()
    skipped = {each.name for each in found.values() if each.status != "ok"}
    assert {found[each].status for each in skipped} == {"skip"}
    assert skipped == {
        *("region", "Spot's role", "instance profile", "routes", "security groups"),
        *("spot vCPUs (L-34B43A08)", "on-demand vCPUs (L-1216C47A)"),
        *("VPC's DNS", "DNS servers", "volumes' key", "rule", "queue's policy"),
    }
    assert all("docs/iam/doctor.json" in found[each].do for each in skipped)


def _many(given: str | list[str]) -> list[str]:
    return [given] if isinstance(given, str) else given


async def test_credentials_that_are_refused_end_the_checks(new_world: DoctorWorld) -> None:
    user = new_world.user
    ago = datetime.now(UTC) - timedelta(hours=2)
    old = new_world.cloud.call(lambda cloud: cloud.keys.for_role(ROLE, "old", 60.0, ago))
    unknown = user._replace(access_key="AKIAUNKNOWN")
    for credential, do in ((old, "get new ones"), (unknown, "check the key")):
        new_world.become(credential)
        found = await new_world.findings()
        assert found["credentials"].status == "fail"
        assert do in found["credentials"].do
        assert found["the rest"].status == "skip"


def run(
    environ: dict[str, str],
    *arguments: str,
    program: tuple[str, ...] = ("-m", "operations.doctor"),
) -> "subprocess.CompletedProcess[str]":
    """Run the command with these settings alone."""
    kept = {name: each for name, each in os.environ.items() if not name.startswith("AWS_")}
    command = [sys.executable, *program, *arguments]
    return subprocess.run(
        command, env={**kept, **environ}, cwd=ROOT, capture_output=True, text=True, check=False
    )


async def test_the_command_reports_in_lines_and_in_json(world: DoctorWorld) -> None:
    good = run(world.environ, "--as", "reaper", "--json")
    assert good.returncode == 0, good
    names = {each["name"] for each in json.loads(good.stdout)["checks"]}
    assert {"credentials", "ec2:TerminateInstances", "queue"} <= names
    assert not names & {"ec2:CreateFleet", "image"}

    bad = run({**world.environ, "DOCKER_JOB_BUS_URL": "amqp://127.0.0.1:1"}, "--as", "reaper")
    assert (bad.returncode, bad.stderr) == (1, ""), bad
    assert "fail  broker" in bad.stdout
    assert bad.stdout.splitlines()[-1].startswith("1 failed: ")

    wrong = run({**world.environ, "DOCKER_JOB_EC2_VCPUS": "many"})
    assert (wrong.returncode, wrong.stdout) == (78, "")
    assert "DOCKER_JOB_EC2_VCPUS" in wrong.stderr


MEASURED = """
import re, sys
from operations.doctor.__main__ import main
status = main()
highest = re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())
print(int(highest[1]) // 1024, file=sys.stderr)
sys.exit(status)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux has /proc")
async def test_the_command_fits_into_a_services_container(world: DoctorWorld) -> None:
    done = run(world.environ, program=("-c", MEASURED))
    assert done.returncode == 0, done
    assert int(done.stderr) < LAUNCHERS_MIB


async def test_no_secret_is_printed(world: DoctorWorld) -> None:
    changes = {
        "DOCKER_JOB_DATABASE_URL": "postgresql://me:canary-1@127.0.0.1:1/x",
        "DOCKER_JOB_BUS_URL": "amqp://me:canary-2@127.0.0.1:1",
    }
    findings = list((await world.findings(**changes)).values())
    text = "\n".join(report.lines(findings)) + report.as_json(findings)
    assert "canary" not in text
    assert world.user.secret not in text
    assert json.loads(report.as_json(findings))["ok"] is False


async def test_a_clock_that_differs_is_found(new_world: DoctorWorld) -> None:
    for ahead, status in ((90.0, "warn"), (-200.0, "warn"), (400.0, "fail"), (-900.0, "fail")):
        new_world.turn_clock(ahead)
        found = await new_world.findings("reaper")
        assert found["clock"].status == status
        assert ("behind" if ahead > 0 else "ahead") in found["clock"].found
        assert "NTP" in found["clock"].do
        assert (found["credentials"].status == "fail") == (status == "fail")


async def test_an_endpoint_that_ignores_dry_runs_is_not_tried(world: DoctorWorld) -> None:
    before = len(world.calls())
    with world.without_dry_run():
        found = await world.findings()
    made = {each.action for each in world.calls()[before:]}
    assert not made & {each.partition(":")[2] for each in CHANGING}
    assert {found[each].status for each in CHANGING} == {"skip"}


def test_little_space_is_noted() -> None:
    for gib, status in ((4.9, "warn"), (5.1, "ok")):
        found = FindingGroup("machine")
        note_disk(found, gib, ROOT)
        [line] = found.all
        assert (line.name, line.status) == ("disk", status)


async def test_the_broker_is_checked_with_the_services_login(
    world: DoctorWorld, rabbitmq: RabbitServer
) -> None:
    with fresh_vhost(rabbitmq) as url:
        missing = await world.findings(DOCKER_JOB_BUS_URL=url)
        assert missing["broker"].status == "fail"
        assert "has no queue 'launcher'" in missing["broker"].found
        await declare_topology(url, TOPOLOGY)
        good = await world.findings("reaper", DOCKER_JOB_BUS_URL=url)
        assert "reaper's login" in good["broker"].found
        assert good["broker"].status == "ok"
        wrong = with_login(url, "nobody", "canary")
        refused = await world.findings(DOCKER_JOB_BUS_URL=wrong)
        assert refused["broker"].status == "fail"
        assert "canary" not in str(refused["broker"])
        assert "password" in refused["broker"].do


SHOWN_BY_TESTS = {
    "credentials": "test_credentials_that_are_refused_end_the_checks",
    "clock": "test_a_clock_that_differs_is_found",
    "disk": "test_little_space_is_noted",
    "broker": "test_the_broker_is_checked_with_the_services_login",
}
NEVER_WRONG = {"instances"}
"""A line that only names the kind of compute."""


def test_each_check_has_a_fault_that_it_finds() -> None:
    names = names_of_checks(ROOT / "shared/compute/ec2/doctor", ROOT / "operations/doctor/checks")
    shown = {name for each in ALL_FAULTS for name in each.found}
    shown |= {action for _, actions in doctor_faults.PERMISSIONS for action in actions}
    shown |= {name for name, test in SHOWN_BY_TESTS.items() if test in globals()}
    unknown = {each for each in names - NEVER_WRONG if not any_fits(each, shown)}
    assert unknown == set()
    assert len(names) > 30
