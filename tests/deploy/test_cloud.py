"""The calls of AWS for start.sh, one by one."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
)

from deploy.instance import cloud
from tests.deploy.conftest import ROOT, MotoCloud
from tests.support.deploy.faulty_moto import Faults
from tests.support.deploy.instance_world import MetadataOfTheInstance

IMAGE_ID = "ami-0123456789abcdef0"


class Instance:
    """An instance in moto's EC2, and its metadata service."""

    def __init__(self, aws: MotoCloud) -> None:
        started = aws.client("ec2").run_instances(ImageId=IMAGE_ID, MinCount=1, MaxCount=1)
        [found] = started["Instances"]
        self.instance_id = str(found["InstanceId"])
        self.zone = str(found["Placement"]["AvailabilityZone"])
        self.metadata = MetadataOfTheInstance(self.instance_id, found["PrivateIpAddress"])
        self._env = aws.env | {"AWS_EC2_METADATA_SERVICE_ENDPOINT": self.metadata.url}

    def cloud(
        self, *arguments: str, stdin: str = "", **more: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run cloud.py, with *stdin* on its standard input and *more* in its environment."""
        return subprocess.run(
            [sys.executable, ROOT / "deploy" / "instance" / "cloud.py", *arguments],
            env=self._env | more,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def instance(aws: MotoCloud) -> Iterator[Instance]:
    instance = Instance(aws)
    yield instance
    instance.metadata.close()


def test_the_volume_is_attached_and_its_device_found_by_its_id(
    aws: MotoCloud, instance: Instance, tmp_path: Path
) -> None:
    ec2 = aws.client("ec2")
    volume = ec2.create_volume(Size=8, AvailabilityZone=instance.zone)["VolumeId"]
    device = tmp_path / "disk/by-id" / f"nvme-Amazon_Elastic_Block_Store_{volume.replace('-', '')}"
    device.parent.mkdir(parents=True)
    device.touch()
    for _ in range(2):  # a reboot finds it attached
        run = instance.cloud("attach", volume, str(tmp_path))
        assert run.stdout == f"{device}\n", run.stderr
    [shown] = ec2.describe_volumes(VolumeIds=[volume])["Volumes"]
    assert [each["InstanceId"] for each in shown["Attachments"]] == [instance.instance_id]


def test_secrets_are_made_once_and_each_lies_in_a_file_for_its_owner_alone(
    instance: Instance, tmp_path: Path
) -> None:
    assert instance.cloud("secrets", "docker-job", str(tmp_path)).returncode == 0
    made = {each.name: each.read_text() for each in tmp_path.iterdir()}
    assert set(made) == {"postgres_password", "rabbitmq_password", "secrets_key", "token_key"}
    assert {len(each) for each in made.values()} == {64}
    assert {each.stat().st_mode & 0o077 for each in tmp_path.iterdir()} == {0}
    for each in tmp_path.iterdir():
        each.unlink()
    instance.cloud("secrets", "docker-job", str(tmp_path))
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == made


def test_a_secret_that_was_removed_is_recreated(
    aws: MotoCloud, instance: Instance, tmp_path: Path
) -> None:
    instance.cloud("secrets", "docker-job", str(tmp_path))
    before = {each.name: each.read_text() for each in tmp_path.iterdir()}
    aws.client("ssm").delete_parameter(Name="/docker-job/docker-job/token_key")
    instance.cloud("secrets", "docker-job", str(tmp_path))
    after = {each.name: each.read_text() for each in tmp_path.iterdir()}
    assert [name for name in before if after[name] != before[name]] == ["token_key"]


def test_the_last_lines_of_a_start_that_failed_are_kept_in_the_log(
    aws: MotoCloud, instance: Instance
) -> None:
    logs = aws.client("logs")
    logs.create_log_group(logGroupName="/docker-job/docker-job")
    assert instance.cloud("note", "/docker-job/docker-job", stdin="no room").returncode == 0
    [stream] = logs.describe_log_streams(logGroupName="/docker-job/docker-job")["logStreams"]
    assert stream["logStreamName"].startswith(f"start/{instance.instance_id}/")
    [event] = logs.get_log_events(
        logGroupName="/docker-job/docker-job", logStreamName=stream["logStreamName"]
    )["events"]
    assert event["message"] == "no room"


def test_the_key_for_the_operator_who_deploys_is_kept_encrypted(
    aws: MotoCloud, instance: Instance
) -> None:
    assert instance.cloud("keep-first-key", "docker-job", stdin="djk_1_2\n").returncode == 0
    name = "/docker-job/docker-job/first_api_key"
    kept = aws.client("ssm").get_parameter(Name=name, WithDecryption=True)["Parameter"]
    assert (kept["Type"], kept["Value"]) == ("SecureString", "djk_1_2")


KEYS = "/docker-job/docker-job/secrets_key"
OLD, NEW = "0f" * 32, "e1" * 32


def sealing_keys(aws: MotoCloud) -> str:
    """Return the parameter's value, "" if there is none."""
    ssm = aws.client("ssm")
    found = ssm.get_parameters(Names=[KEYS], WithDecryption=True)["Parameters"]
    assert {each["Type"] for each in found} <= {"SecureString"}
    return next((str(each["Value"]) for each in found), "")


@pytest.mark.parametrize(
    ("before", "on_volume", "after"),
    [
        ("", OLD, OLD),
        (OLD, OLD, OLD),
        (NEW, OLD, f"{NEW} {OLD}"),
        (f"{NEW} {OLD}", f"{OLD}\n", f"{NEW} {OLD}"),
        (NEW, "damaged", NEW),
        (NEW, None, NEW),
    ],
)
def test_sealing_keys_that_only_the_volume_has_join_those_of_the_parameter(
    aws: MotoCloud,
    instance: Instance,
    tmp_path: Path,
    before: str,
    on_volume: str | None,
    after: str,
) -> None:
    if before:
        aws.client("ssm").put_parameter(Name=KEYS, Type="SecureString", Value=before)
    file = tmp_path / "secrets_key"
    if on_volume is not None:
        file.write_text(on_volume)
    for _ in range(2):  # as after a crash
        run = instance.cloud("keep-sealing-keys", "docker-job", str(file))
        assert run.returncode == 0, run.stderr
        assert sealing_keys(aws) == after
    assert file.exists() == (on_volume is not None), "removing it is the caller's"


@pytest.mark.parametrize("call", ["GetParameter", "PutParameter"])
def test_a_key_is_not_reported_as_kept_while_the_parameter_store_refuses(
    faults: Faults, aws: MotoCloud, instance: Instance, tmp_path: Path, call: str
) -> None:
    (tmp_path / "secrets_key").write_text(OLD)
    faults.fail(call, "AccessDeniedException", 99)
    arguments = ("keep-sealing-keys", "docker-job", str(tmp_path / "secrets_key"))
    assert instance.cloud(*arguments, STEP_SECONDS="1").returncode == 1
    assert sealing_keys(aws) == ""


def test_a_new_sealing_key_stands_in_front_of_those_that_open_what_is_sealed(
    aws: MotoCloud, instance: Instance
) -> None:
    aws.client("ssm").put_parameter(Name=KEYS, Type="SecureString", Value=OLD)
    assert instance.cloud("new-sealing-key", "docker-job").returncode == 0
    new, *others = sealing_keys(aws).split()
    assert len(new) == 64
    assert (new != OLD, others) == (True, [OLD])


@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_no_file_of_a_secret_is_open_to_others_whatever_the_umask(
    instance: Instance, tmp_path: Path, mask: int
) -> None:
    before = os.umask(mask)
    try:
        (tmp_path / "token_key.new").touch(mode=0o666)  # of a start that was killed
        assert instance.cloud("secrets", "docker-job", str(tmp_path)).returncode == 0
    finally:
        os.umask(before)
    files = list(tmp_path.iterdir())
    open_ones = [each for each in files if each.stat().st_mode & 0o777 != 0o600]
    print(f"{len(open_ones)} of {len(files)} files are open to others")
    assert (len(files), open_ones) == (4, [])


class Clock:
    """A clock that sleeping advances."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def answer(code: str, status: int = 400) -> ClientError:
    shape: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(shape, "Something")


def tries(errors: list[Exception], clock: Clock, seconds: float = 60) -> int:
    """Repeat a step that fails with *errors* and then succeeds; return the number of tries."""
    left = [*errors]

    def step() -> None:
        if left:
            raise left.pop(0)

    cloud.repeat("step", step, seconds, clock, clock.sleep, lambda: 1.0)
    return len(errors) - len(left) + 1


@pytest.mark.parametrize(
    "error",
    [
        answer("AuthFailure"),
        answer("InvalidClientTokenId", 403),
        answer("IncorrectInstanceState"),
        answer("Throttling"),
        answer("Unforeseen", 503),
        NoCredentialsError(),
        EndpointConnectionError(endpoint_url="https://sts"),
        TimeoutError("the metadata service"),
    ],
)
def test_what_may_change_is_repeated(error: Exception) -> None:
    assert tries([error] * 3, Clock()) == 4


@pytest.mark.parametrize(
    "error",
    [
        answer("InvalidParameterValue"),
        answer("InvalidVolume.ZoneMismatch"),
        ParamValidationError(report="no volume"),
        cloud.NotInTimeError("vol-1 is attached: not within 300 s"),
    ],
)
def test_what_will_not_change_fails_at_once(error: Exception) -> None:
    clock = Clock()
    with pytest.raises(type(error)):
        tries([error], clock)
    assert clock.now == 0


def test_a_permanent_refusal_ends_at_the_deadline_with_its_reason() -> None:
    clock = Clock()
    with pytest.raises(ClientError, match="AccessDenied"):
        tries([answer("AccessDenied")] * 99, clock, seconds=60)
    assert 40 < clock.now <= 60


def test_the_reason_is_one_line_and_the_status_is_1(aws: MotoCloud, instance: Instance) -> None:
    run = instance.cloud("address", "eipalloc-0123456789abcdef0", STEP_SECONDS="1")
    assert run.returncode == 1
    assert "cloud: address: An error occurred (InvalidAllocationID.NotFound)" in run.stderr
    assert "Traceback" not in run.stderr


def test_each_call_that_is_refused_once_is_repeated(faults: Faults, instance: Instance) -> None:
    faults.fail("PutParameter", "AccessDeniedException", 2)
    run = instance.cloud("keep-first-key", "docker-job", stdin="djk_1_2\n")
    assert run.returncode == 0, run.stderr
    assert "AccessDeniedException" in run.stderr
    assert faults.refused == ["PutParameter", "PutParameter"]
