"""destroy.sh ends every instance: also what the first call, or the group, does not end."""

from typing import Any
from unittest.mock import Mock

import pytest
from moto.ec2.models import ec2_backends
from moto.ec2.models.instances import InstanceBackend

from deploy.account import Account
from deploy.down import DEPLOYMENT_TAG, SERVICES_SECONDS, Removal
from deploy.ending import DEADLINE_SECONDS
from deploy.place import SERVICES_TAG
from deploy.progress import Progress
from deploy.refusal import Refusal
from tests.deploy.conftest import ACCOUNT, IMAGE_ID, REGION, MotoCloud
from tests.support.deploy.faulty_moto import Faults

STACK = "docker-job"


class Clock:
    """A clock that sleeping advances."""

    def __init__(self) -> None:
        self.now = 0.0
        self.on_sleep: Any = lambda: None

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.on_sleep()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def removal(aws: MotoCloud, clock: Clock) -> Removal:
    session = Mock()
    session.client.side_effect = lambda service, **_: aws.client(service)
    account = Account(session, ACCOUNT, REGION, "aws", "user/me")
    progress = Progress(Mock(isatty=lambda: False))
    return Removal(account, STACK, progress, clock.sleep, clock)


def run_one(aws: MotoCloud, tag: str, **more: Any) -> str:
    tags = [{"Key": tag, "Value": STACK}]
    started = aws.client("ec2").run_instances(
        ImageId=IMAGE_ID,
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[
            {"ResourceType": "instance", "Tags": tags},
            {"ResourceType": "volume", "Tags": tags},
        ],
        **more,
    )
    return str(started["Instances"][0]["InstanceId"])


def test_an_instance_that_is_launched_meanwhile_is_ended_too(
    aws: MotoCloud, removal: Removal, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A launch under way becomes visible after the first look, or its termination has no effect."""
    run_one(aws, DEPLOYMENT_TAG)
    terminate = InstanceBackend.terminate_instances
    ignored = [True]

    def ignore_first(self: Any, instance_ids: list[str]) -> Any:
        if ignored:
            ignored.pop()
            return []
        return terminate(self, instance_ids)

    monkeypatch.setattr(InstanceBackend, "terminate_instances", ignore_first)
    late = [True]
    clock.on_sleep = lambda: late and late.pop() and run_one(aws, DEPLOYMENT_TAG)
    assert removal.end_jobs() == 2
    assert aws.instances(DEPLOYMENT_TAG) == []
    assert clock.now < DEADLINE_SECONDS


def test_requests_are_cancelled_before_instances_are_ended(
    aws: MotoCloud, removal: Removal, faults: Faults
) -> None:
    """A persistent request launches again after the end of its instance."""
    ec2 = aws.client("ec2")
    tags = [{"Key": DEPLOYMENT_TAG, "Value": STACK}]
    ec2.request_spot_instances(
        LaunchSpecification={"ImageId": IMAGE_ID, "InstanceType": "m5.large"},
        TagSpecifications=[{"ResourceType": "spot-instances-request", "Tags": tags}],
    )
    job = run_one(aws, DEPLOYMENT_TAG)
    faults.fail("CancelSpotInstanceRequests", "InternalError")
    with pytest.raises(Exception, match="InternalError"):
        removal.end_jobs()
    assert [each["InstanceId"] for each in aws.instances(DEPLOYMENT_TAG)] == [job]


def test_the_services_instance_that_its_group_does_not_end_is_ended_after_a_while(
    aws: MotoCloud, removal: Removal, clock: Clock
) -> None:
    """One in Standby, protected from scale-in, or detached: this one is in no group."""
    run_one(aws, SERVICES_TAG)
    removal.end_services()
    assert aws.instances(SERVICES_TAG) == []
    assert SERVICES_SECONDS <= clock.now < DEADLINE_SECONDS


def test_what_ec2_does_not_end_is_named_with_its_state_the_reason_and_the_command(
    aws: MotoCloud, removal: Removal, clock: Clock
) -> None:
    kept = run_one(aws, DEPLOYMENT_TAG)
    aws.client("ec2").modify_instance_attribute(
        InstanceId=kept, DisableApiTermination={"Value": True}
    )
    other = run_one(aws, DEPLOYMENT_TAG)
    with pytest.raises(Refusal) as caught:
        removal.end_jobs()
    assert [each["InstanceId"] for each in aws.instances(DEPLOYMENT_TAG)] == [kept]
    line = str(caught.value)
    assert other not in line, "one instance with protection does not keep the others"
    assert f"EC2 still shows job instances after 15 minutes: {kept} (running: " in line
    assert "disableApiTermination" in line
    assert f"`aws ec2 terminate-instances --region {REGION} --instance-ids {kept}`" in line
    assert clock.now == DEADLINE_SECONDS


def test_a_missing_permission_is_no_reason_to_wait(
    aws: MotoCloud, removal: Removal, clock: Clock, faults: Faults
) -> None:
    run_one(aws, DEPLOYMENT_TAG)
    faults.fail("TerminateInstances", "UnauthorizedOperation")
    with pytest.raises(Exception, match="UnauthorizedOperation"):
        removal.end_jobs()
    assert clock.now == 0


def test_volumes_that_outlive_job_instances_are_deleted_or_listed(
    aws: MotoCloud, removal: Removal
) -> None:
    """Those of an AMI with DeleteOnTermination off, as earlier releases have left them."""
    disk = {"VolumeSize": 9, "DeleteOnTermination": False}
    run_one(aws, DEPLOYMENT_TAG, BlockDeviceMappings=[{"DeviceName": "/dev/sdf", "Ebs": disk}])
    ec2 = aws.client("ec2")
    left = [each for each in ec2.describe_volumes()["Volumes"] if each["Size"] == 9]
    assert len(left) == 1
    name = left[0]["VolumeId"]
    assert f"volume of a job instance {name} (9 GiB, in-use)" in removal.remaining()
    removal.end_jobs()
    backend = ec2_backends[ACCOUNT][REGION]
    assert name not in backend.volumes
    assert removal.remaining() == []
