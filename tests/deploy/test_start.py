"""The services' instance at its first boot: its own user data and start script, run for real.

What is real: the user data that CloudFormation was given, the packages, the source out of the
bucket, the build, compose, database, broker and services, the API key, `/readyz`. The "instance" is
a Debian container beside the machine's engine, AWS is moto, and besides:

- the compute is a simulated cloud (there is no EC2: no role to show, no queue to read), and
  containers log as the engine does (CloudWatch's driver asks with the engine's own credentials);
- the data volume is a directory that is mounted already (a container has no devices), so attaching
  and mounting are passed by; formatting is tried on files below;
- the metadata service and CloudFormation's SignalResource, which moto lacks, are two small servers;
- nothing in the container is systemd: its units are not written.
"""

import os
import re
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.deploy.conftest import ROOT, MotoCloud
from tests.support.deploy.instance_world import FirstBoot
from tests.support.deploy.noting_program import KEY
from tests.support.deploy.without_engine import FirstBootWithoutEngine
from tests.support.systems.compose_project import what_is_missing

START = ROOT / "deploy" / "instance" / "start.sh"
ALLOW = ("--allow", "203.0.113.0/24")


@pytest.fixture
def boot(aws: MotoCloud) -> Iterator[FirstBoot]:
    """Make an instance whose user data has not run yet."""
    if missing := what_is_missing():
        pytest.skip(missing)
    assert aws.deploy(*ALLOW).returncode == 0
    boot = FirstBoot(aws)
    yield boot
    boot.close()


@pytest.fixture
def noted_boot(aws: MotoCloud) -> Iterator[FirstBootWithoutEngine]:
    """Make an instance whose engine only notes its commands."""
    if missing := what_is_missing():
        pytest.skip(missing)
    assert aws.deploy(*ALLOW).returncode == 0
    boot = FirstBootWithoutEngine(aws)
    yield boot
    boot.close()


@pytest.mark.filterwarnings("ignore:Tried to parse")
def test_the_first_boot_does_each_step_in_its_order_and_a_reboot_recreates_nothing(
    aws: MotoCloud, noted_boot: FirstBootWithoutEngine
) -> None:
    """Short form of the next one, which has an engine, builds, and runs a job."""
    boot = noted_boot
    boot.run()
    assert boot.signals.received == [("docker-job", "Services", boot.instance_id, "SUCCESS")]
    calls = boot.calls("docker")
    steps = [
        next(number for number, call in enumerate(calls) if call.endswith(step)) for step in STEPS
    ]
    assert steps == sorted(steps)
    assert boot.secret_in_clear() is None
    deployed = aws.deploy().stdout
    assert KEY in deployed
    [ca] = re.findall(r"CA: +(/\S+),", deployed)
    assert Path(ca).read_text() == "the ca.pem of the first boot\n"
    [kept] = aws.client("ssm").get_parameters(
        Names=["/docker-job/docker-job/ca_key"], WithDecryption=True
    )["Parameters"]
    assert (kept["Type"], kept["Value"]) == ("SecureString", "the authority.pem of the first boot")
    check_aws(aws, boot)

    boot.run_start_again()
    assert [call.endswith(CREATE) for call in boot.calls("docker")].count(True) == 1
    assert boot.signals.received[1:] == boot.signals.received[:1]


@pytest.mark.filterwarnings("ignore:Tried to parse")
def test_no_secret_is_on_the_data_volume_and_those_of_a_release_before_leave_it(
    aws: MotoCloud, noted_boot: FirstBootWithoutEngine
) -> None:
    """The volume of a release that kept the services' secrets there, and another sealing key."""
    boot, old_key = noted_boot, "0f" * 32
    for name in ("api/secrets_key", "api/database_password", "launcher/aws_session"):
        file = boot.data / "secrets" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(old_key if name == "api/secrets_key" else "old")
    (boot.data / "postgres").mkdir()
    (boot.data / "postgres" / "PG_VERSION").write_text("17\n")
    boot.run()
    name = "/docker-job/docker-job/secrets_key"
    kept = aws.client("ssm").get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"]
    assert old_key in kept.split(), "what it has sealed stays readable"
    assert "rotate the sealing key" in boot.output

    secrets = [*kept.split(), boot.session_of("launcher")["SecretAccessKey"]]
    files = boot.files_of_the_volume()
    found = [path for path, text in files.items() if any(each in text for each in secrets)]
    print(f"{len(found)} of {len(files)} files of the volume have a secret in them")
    assert (len(files), found) == (1, [])
    assert not (boot.data / "secrets").exists()
    modes = boot.modes_of_secrets()
    public = {path for path in modes if path.endswith("/tls/ca.pem")}
    open_ones = {path: modes[path] for path in modes.keys() - public if int(modes[path], 8) & 0o077}
    assert len(public) == 1, "the authority's certificate, in a directory for root alone"
    print(f"{len(open_ones)} of {len(modes)} files and directories of secrets are open to others")
    assert (len(modes) > 10, open_ones) == (True, {})

    boot.run_start_again()
    assert "rotate the sealing key" not in boot.output

    boot.run_start_again("rotate-sealing-key")
    rotated = aws.client("ssm").get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"]
    new, *others = rotated.split()
    assert (new in kept, others) == (False, kept.split())
    assert new not in boot.output
    written, recreated = boot.calls("docker")[-2:]
    assert written.endswith(" run --rm -T --no-deps secrets")
    assert recreated.endswith(" up -d --wait --force-recreate --no-deps api")


CREATE = "keys create --name first --scope admin"
STEPS = (
    "build --quiet migrate",
    "localhost 127.0.0.1",
    "up --quiet-pull -d --wait postgres rabbitmq",
    "psql -qX -v ON_ERROR_STOP=1 -U postgres -d docker_job",
    "run --rm -T migrate",
    "keys list",
    CREATE,
    "up -d --wait --remove-orphans api scheduler launcher reaper",
)


@pytest.mark.campaign
@pytest.mark.timeout(1200)
@pytest.mark.filterwarnings("ignore:Tried to parse")
def test_the_first_boot_brings_readyz_to_200_leaves_a_key_and_signals(
    aws: MotoCloud, boot: FirstBoot
) -> None:
    boot.run()
    assert httpx.get(f"{boot.api}/readyz", verify=boot.authority).status_code == 200
    assert boot.signals.received == [("docker-job", "Services", boot.instance_id, "SUCCESS")]
    closed = httpx.get(f"{boot.api}/list", verify=boot.authority)
    assert closed.status_code == 401, "it is closed without a key"

    deployed = aws.deploy()
    [ca] = re.findall(r"CA: +(/\S+),", deployed.stdout)
    trust = ssl.create_default_context(cafile=ca)
    key = next(line.split()[-1] for line in deployed.stdout.splitlines() if "API key:" in line)
    assert key.startswith("djk_"), boot.output
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=boot.api, headers=headers, verify=trust) as caller:
        check(aws, boot, caller)


def check(aws: MotoCloud, boot: FirstBoot, caller: httpx.Client) -> None:
    """Check the state after the first boot, and after a reboot."""
    scheduled = caller.post("/schedule", json={"docker_image": "alpine", "scheduled_for": "now"})
    assert scheduled.status_code == 201, scheduled.text
    job = scheduled.json()
    with caller.stream("GET", f"/jobs/{job['id']}/logs?follow=1", timeout=60) as lines:
        assert any(line == "event: end" for line in lines.iter_lines())
    assert caller.get(f"/status/{job['id']}").json()["status"] == "DONE"

    check_aws(aws, boot)
    assert boot.secret_in_clear() is None
    for service in ("launcher", "reaper"):
        assert boot.access_key_of(service) == boot.session_of(service)["AccessKeyId"]
    assert boot.access_key_of("launcher") != boot.access_key_of("reaper")

    boot.renew_certificate(at_once=False)
    assert "made nothing: all is valid" in boot.output
    boot.renew_certificate(at_once=True)
    assert "made the API's certificate" in boot.output
    assert caller.get("/readyz").status_code == 200

    boot.run_start_again()  # a reboot: nothing is recreated, and the job still exists
    assert caller.get(f"/status/{job['id']}").json()["status"] == "DONE"
    assert "making the first API key" not in boot.output


def check_aws(aws: MotoCloud, boot: FirstBoot) -> None:
    """Check that the API's name in the VPC and the public address are this instance's."""
    zone = aws.client("route53").list_hosted_zones()["HostedZones"][0]["Id"]
    records = aws.client("route53").list_resource_record_sets(HostedZoneId=zone)
    [named] = [each for each in records["ResourceRecordSets"] if each["Type"] == "A"]
    assert named["Name"].startswith("api.docker-job.docker-job.internal")
    [address] = aws.client("ec2").describe_addresses()["Addresses"]
    assert address["InstanceId"] == boot.instance_id


def step(function: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run one function of the start script."""
    script = f'source "{START}"; {function} "$@"'
    return subprocess.run(
        ["bash", "-c", script, "start", *arguments], capture_output=True, text=True, check=False
    )


@pytest.fixture
def device() -> Iterator[Path]:
    """Make a file of 64 MiB of zeros: an empty volume for mkfs and blkid."""
    if shutil.which("mkfs.ext4", path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None:
        pytest.skip("needs mkfs.ext4 (e2fsprogs)")
    directory = Path(tempfile.mkdtemp())
    path = directory / "device"
    path.touch()
    os.truncate(path, 64 << 20)
    yield path
    shutil.rmtree(directory)


def test_an_empty_volume_is_formatted_and_one_with_data_is_never_again(device: Path) -> None:
    first = step("format_if_empty", str(device))
    assert first.returncode == 0, first.stderr
    assert "which is empty" in first.stdout
    before = device.read_bytes()
    again = step("format_if_empty", str(device))
    assert (again.returncode, again.stdout) == (0, "")
    assert device.read_bytes() == before


def test_a_volume_with_unknown_data_is_left_alone(device: Path) -> None:
    with device.open("r+b") as file:
        file.seek(5 << 20)
        file.write(b"another's data")
    run = step("format_if_empty", str(device))
    assert run.returncode == 1
    assert "is left unchanged" in run.stderr
    assert b"another's data" in device.read_bytes()


def test_a_snapshot_without_a_database_of_ours_is_refused(tmp_path: Path) -> None:
    check = f"DATA_DIR={tmp_path} DATA_SNAPSHOT={{}} refuse_snapshot_without_data"
    assert step(check.format("")).returncode == 0
    refused = step(check.format("snap-1"))
    assert refused.returncode == 1
    assert "snap-1 holds no database of docker-job" in refused.stderr
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("17\n")
    assert step(check.format("snap-1")).returncode == 0


def test_the_start_script_is_sound_bash() -> None:
    for script in (ROOT / "deploy").rglob("*.sh"):
        assert subprocess.run(["bash", "-n", script], check=False).returncode == 0, script
