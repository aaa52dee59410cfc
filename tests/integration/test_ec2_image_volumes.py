"""Images with volumes beside their root, on the strict EC2: they end with the instance."""

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto.ec2.models.amis import Ami

from fake_aws import CloudSettings, CloudThread, start_cloud
from fake_aws.errors import AwsError
from fake_aws.prices import GP3_GIB_MONTH_USD
from fake_aws.volumes import Volume, volumes_of
from shared.clock import RealClock
from shared.compute.ec2.compute import Ec2Compute
from shared.compute.ec2.settings import Ec2Settings
from shared.compute.port import Instance, LaunchRequest, Offer
from tests.support.compute.compute_adapters import launch
from tests.support.compute.compute_ec2 import AGENT, PROFILE, REGION, make_profile
from tests.support.compute.ec2_clouds import eventually

REQUEST = LaunchRequest(
    token="token",
    deployment="test",
    job_id=1,
    attempt=1,
    max_lifetime_seconds=60,
    api_url="http://api",
)
ROOT = {"VolumeSize": 8, "VolumeType": "gp3", "SnapshotId": "snap-1", "DeleteOnTermination": True}
ATTACHED_LATER = {
    "VolumeSize": 50,
    "VolumeType": "gp2",
    "SnapshotId": "snap-2",
    "DeleteOnTermination": False,
}


@pytest.fixture
def image(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Give every image what CreateImage makes of an instance with a volume attached later."""
    mappings: list[dict[str, Any]] = [
        {"DeviceName": "/dev/xvda", "Ebs": ROOT},
        {"DeviceName": "/dev/sdf", "Ebs": dict(ATTACHED_LATER)},
        {"DeviceName": "/dev/sdg", "VirtualName": "ephemeral0"},
    ]
    monkeypatch.setattr(Ami, "block_device_mappings", property(lambda _ami: mappings))
    return mappings


@pytest.fixture
def cloud(image: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Iterator[CloudThread]:
    given = CloudSettings(speed=200.0, visible_after_seconds=0.0, minimum_billed_seconds=0.0)
    with start_cloud(given) as cloud:
        make_profile(cloud)
        for name, value in cloud.environment().items():
            monkeypatch.setenv(name, value)
        yield cloud


def compute_of() -> Ec2Compute:
    settings = Ec2Settings(instance_profile=PROFILE, instance_types=("m5.large",))
    return Ec2Compute(REGION, "test", RealClock(), AGENT, settings)


async def test_a_second_volume_ends_with_the_instance_and_is_in_its_cost(
    cloud: CloudThread,
) -> None:
    compute = compute_of()
    [instance] = await launch(compute, REQUEST)
    assert isinstance(instance, Instance)
    [made] = cloud.cloud.registry.all.values()
    assert [(each.device, each.gib) for each in made.plan.volumes] == [
        ("/dev/xvda", 30),
        ("/dev/sdf", 50),
    ]
    assert all(each.ends_with_instance and each.encrypted for each in made.plan.volumes)
    assert {each.kind for each in made.plan.volumes} == {"gp3"}, "the price that is counted"
    hourly = instance.other_prices.volume_hourly_usd
    assert hourly == pytest.approx(80 * GP3_GIB_MONTH_USD / 730, rel=0.09)
    await compute.terminate([instance.instance_id])
    eventually(lambda: made.state.label == "terminated")
    bills = [cloud.control.ledger()[0].volume_usd for _ in range(2)]
    assert bills[0] == bills[1], "nothing is billed after its end"


async def test_a_volume_of_unknown_size_makes_the_cost_unknown(
    cloud: CloudThread, image: list[dict[str, Any]]
) -> None:
    del image[1]["Ebs"]["VolumeSize"]
    plan = await compute_of().plan(Offer(deployment="test", api_url="http://api"))
    assert plan["volume_gib"] == {}


def test_the_ledger_bills_a_volume_that_outlives_its_instance(cloud: CloudThread) -> None:
    ec2 = boto3.client("ec2", **cloud.client_arguments())
    [image, *_] = [each for each in ec2.describe_images()["Images"] if not each.get("Platform")]
    kind = "c7g.large" if image["Architecture"] == "arm64" else "c7i.large"
    run = ec2.run_instances(ImageId=image["ImageId"], InstanceType=kind, MinCount=1, MaxCount=1)
    [instance] = run["Instances"]
    ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    [made] = cloud.cloud.registry.all.values()
    eventually(lambda: made.state.label == "terminated")
    first = cloud.control.ledger()[0].volume_usd
    eventually(lambda: cloud.control.ledger()[0].volume_usd > first)


def test_a_launch_overrides_what_it_gives_and_keeps_the_rest() -> None:
    own = [{"DeviceName": "/dev/sdf", "Ebs": ATTACHED_LATER}]
    kept = volumes_of("/dev/xvda", own, [])[0]
    assert kept == Volume("/dev/sdf", 50, "gp2", encrypted=False, ends_with_instance=False)
    given = [{"DeviceName": "/dev/sdf", "Ebs": {"DeleteOnTermination": True}}]
    assert volumes_of("/dev/xvda", own, given)[0] == kept._replace(ends_with_instance=True)
    without = volumes_of("/dev/xvda", own, [{"DeviceName": "/dev/sdf", "NoDevice": ""}])
    assert [each.device for each in without] == ["/dev/xvda"]
    with pytest.raises(AwsError, match="smaller than snapshot"):
        volumes_of("/dev/xvda", own, [{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 49}}])
