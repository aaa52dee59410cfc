"""Which types a job is offered, of all that the strict EC2 shows, and what their instances get."""

from collections.abc import AsyncIterator
from typing import Any

import boto3
import pytest
from msgspec.structs import replace

from shared.compute.choice import choose, wanted_by
from shared.compute.ec2.settings import AMI_PARAMETERS, Ec2Settings
from shared.compute.port import LaunchBatch, LaunchRequest, Offer, Plan, Rejected
from shared.events.events import Market
from shared.events.requirements import Resources
from tests.support.compute.compute_api import FakeApi
from tests.support.compute.compute_ec2 import PROFILE, Ec2World

SETTINGS = Ec2Settings(instance_profile=PROFILE, max_lifetime_seconds=120)


@pytest.fixture
async def world() -> AsyncIterator[Ec2World]:
    world = Ec2World(FakeApi(), boot="none")
    yield world
    await world.close()


def offer(resources: Resources, market: Market = "spot") -> Offer:
    return Offer(deployment="test", api_url="http://api", resources=resources, market=market)


async def planned(
    world: Ec2World,
    resources: Resources,
    settings: Ec2Settings = SETTINGS,
    market: Market = "spot",
) -> Plan:
    return await world.adapter(settings=settings).plan(offer(resources, market))


def names_of(plan: Plan) -> set[str]:
    configs = plan["fleet"]["LaunchTemplateConfigs"]
    return {each["InstanceType"] for config in configs for each in config["Overrides"]}


def shown(world: Ec2World, plan: Plan) -> list[dict[str, Any]]:
    """Return the types that the plan offers, as EC2 shows them."""
    ec2 = boto3.client("ec2", **world.cloud.client_arguments())
    answer = ec2.describe_instance_types(InstanceTypes=sorted(names_of(plan)))
    return list(answer["InstanceTypes"])


def templates(world: Ec2World, plan: Plan) -> dict[str, dict[str, Any]]:
    """Return the template's data for each type of the plan."""
    ec2 = boto3.client("ec2", **world.cloud.client_arguments())
    found = {}
    for config in plan["fleet"]["LaunchTemplateConfigs"]:
        asked = config["LaunchTemplateSpecification"]
        (version,) = ec2.describe_launch_template_versions(
            LaunchTemplateId=asked["LaunchTemplateId"], Versions=[asked["Version"]]
        )["LaunchTemplateVersions"]
        for each in config["Overrides"]:
            found[each["InstanceType"]] = version["LaunchTemplateData"]
    return found


def disk_of(data: dict[str, Any]) -> int:
    return int(data["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"])


@pytest.mark.parametrize("market", ["spot", "on-demand"])
@pytest.mark.parametrize("architecture", ["x86_64", "arm64"])
@pytest.mark.parametrize("vcpus", [1, 2, 16, 48])
async def test_a_plain_job_pays_for_no_accelerator_no_local_disk_and_no_burstable_cpu(
    world: Ec2World, architecture: Any, vcpus: int, market: Market
) -> None:
    asked = Resources(vcpus=vcpus, architecture=architecture)
    offered = shown(world, await planned(world, asked, market=market))
    assert len(offered) >= 5
    families = {each["InstanceType"].split(".")[0] for each in offered}
    assert not {each for each in families if each.startswith(("t", "a1", "g", "inf", "d", "h1"))}
    assert [each["InstanceType"] for each in offered if each["InstanceStorageSupported"]] == []
    assert [each["InstanceType"] for each in offered if each.get("Hypervisor") == "xen"] == []


async def test_a_quota_of_a_jobs_own_size_leaves_types_of_that_size(world: Ec2World) -> None:
    adapter = world.adapter(settings=SETTINGS)
    asked = offer(Resources(vcpus=36), "spot")
    usual = adapter.vcpus_of(await adapter.plan(asked), asked.resources)
    bounded = adapter.vcpus_of(await adapter.plan(replace(asked, most_vcpus=36)), asked.resources)
    print(f"up to {max(usual.values())} vCPUs without a quota, {set(bounded.values())} with one")
    assert max(usual.values()) > 36
    assert set(bounded.values()) == {36}


async def test_large_pools_are_offered_though_ec2_calls_them_not_current(world: Ec2World) -> None:
    plan = await planned(world, Resources())
    flags = {each["InstanceType"]: each["CurrentGeneration"] for each in shown(world, plan)}
    assert flags["c5.large"] is False
    assert flags["m5.large"] is False
    assert names_of(await planned(world, Resources(vcpus=2, memory_mib=16_384))) >= {"r5.large"}
    assert names_of(await planned(world, Resources(gpus=1))) >= {"g5.xlarge", "g4dn.xlarge"}


async def test_the_plan_of_a_job_has_the_types_of_its_launch(world: Ec2World) -> None:
    offers = await world.adapter(settings=SETTINGS).price_offers()
    types = {each.name: each for each in offers.types}
    for resources in (Resources(), Resources(gpus=1), Resources(vcpus=8, architecture="arm64")):
        wanted = wanted_by(resources, offers.terms)
        chosen = choose(types, wanted, "spot", offers.terms.most_types)
        assert {each.name for each in chosen} == names_of(await planned(world, resources))


async def test_a_type_that_spot_does_not_have_is_left_out_or_rejected_with_the_way_out(
    world: Ec2World,
) -> None:
    both = Resources(instance_types=("u-3tb1.56xlarge", "m5.large"))
    assert names_of(await planned(world, both)) == {"m5.large"}
    alone = Resources(instance_types=("u-3tb1.56xlarge",))
    assert names_of(await planned(world, alone, market="on-demand")) == {"u-3tb1.56xlarge"}
    with pytest.raises(Rejected, match=r"not sold on Spot: u-3tb1\.56xlarge; .*`on_demand`"):
        await planned(world, alone)


async def test_a_type_that_the_image_does_not_run_on_is_left_out_or_rejected_in_words(
    world: Ec2World,
) -> None:
    both = Resources(instance_types=("a1.large", "m6g.large"))
    assert names_of(await planned(world, both)) == {"m6g.large"}
    with pytest.raises(Rejected, match=r"does not run on a1\.large"):
        await planned(world, Resources(instance_types=("a1.large",)))
    with pytest.raises(Rejected, match=r"does not run on mac2\.metal"):
        await planned(world, Resources(instance_types=("mac2.metal",)), market="on-demand")


async def test_an_image_of_the_operator_s_own_may_run_on_a1(world: Ec2World) -> None:
    ssm = boto3.client("ssm", **world.cloud.client_arguments())
    image = ssm.get_parameter(Name=AMI_PARAMETERS["arm64"])["Parameter"]["Value"]
    own = replace(SETTINGS, image_id=image, architecture="arm64")
    plan = await planned(world, Resources(instance_types=("a1.large",)), own)
    assert names_of(plan) == {"a1.large"}


async def test_types_with_and_without_gpus_boot_each_their_own_image_in_one_fleet(
    world: Ec2World,
) -> None:
    named = Resources(instance_types=("m5.large", "g4dn.xlarge", "t3.large"))
    made = templates(world, await planned(world, named))
    assert made["m5.large"]["ImageId"] != made["g4dn.xlarge"]["ImageId"]
    assert made["m5.large"]["ImageId"] == made["t3.large"]["ImageId"]
    assert [disk_of(made[each]) for each in ("m5.large", "g4dn.xlarge")] == [30, 100]


@pytest.mark.parametrize(
    ("resources", "gib"),
    [(Resources(gpus=1), 100), (Resources(gpus=1, disk_gib=250), 250), (Resources(), 30)],
)
async def test_instances_with_gpus_have_a_larger_disk_unless_the_job_says(
    world: Ec2World, resources: Resources, gib: int
) -> None:
    made = templates(world, await planned(world, resources))
    assert {disk_of(each) for each in made.values()} == {gib}


async def launched(world: Ec2World, resources: Resources, count: int) -> list[dict[str, Any]]:
    compute = world.adapter(settings=SETTINGS)
    asked = LaunchRequest(
        token="t",
        deployment="test",
        job_id=1,
        attempt=1,
        max_lifetime_seconds=60,
        api_url="http://api",
    )
    requests = tuple(replace(asked, token=f"t{each}", job_id=each) for each in range(count))
    plan = await compute.plan(offer(resources))
    await compute.launch(LaunchBatch(token="batch", plan=plan, requests=requests))
    return world.cloud.control.instances()


async def test_burstable_types_that_a_job_names_earn_no_surplus_credits(world: Ec2World) -> None:
    world.cloud.control.set_capacity(1)  # so that each type is used
    made = await launched(world, Resources(instance_types=("t3.large", "m5.large")), 8)
    credit = {each["instance_type"]: each["cpu_credits"] for each in made}
    assert credit == {"t3.large": "standard", "m5.large": ""}
