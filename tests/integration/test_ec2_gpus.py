"""Instance types offered to jobs with and without GPUs, of all that the strict EC2 shows."""

from collections.abc import AsyncIterator
from typing import Any

import boto3
import pytest
from msgspec.structs import replace

from shared.compute.ec2.settings import AMI_PARAMETERS, Ec2Settings
from shared.compute.port import Offer, Plan, Rejected
from shared.events.requirements import Resources
from tests.support.compute.compute_api import FakeApi
from tests.support.compute.compute_ec2 import PROFILE, Ec2World

SETTINGS = Ec2Settings(instance_profile=PROFILE, max_lifetime_seconds=120)
MIXED = ("g5g.xlarge", "m7g.large")
ACCELERATORS = (
    *("GpuInfo", "FpgaInfo", "InferenceAcceleratorInfo", "MediaAcceleratorInfo", "NeuronInfo"),
)


@pytest.fixture
async def world() -> AsyncIterator[Ec2World]:
    world = Ec2World(FakeApi(), boot="none")
    yield world
    await world.close()


async def planned(world: Ec2World, resources: Resources, settings: Ec2Settings = SETTINGS) -> Plan:
    compute = world.adapter(settings=settings)
    return await compute.plan(Offer(deployment="test", api_url="http://api", resources=resources))


def types_of(world: Ec2World, plan: Plan) -> list[dict[str, Any]]:
    """Return the types that the plan offers, as EC2 shows them."""
    (config,) = plan["fleet"]["LaunchTemplateConfigs"]
    names = sorted({each["InstanceType"] for each in config["Overrides"]})
    ec2 = boto3.client("ec2", **world.cloud.client_arguments())
    found: list[dict[str, Any]] = ec2.describe_instance_types(InstanceTypes=names)["InstanceTypes"]
    return found


def boots(world: Ec2World, plan: Plan, kind: str) -> bool:
    """Return whether the plan's template has the image of this kind."""
    (config,) = plan["fleet"]["LaunchTemplateConfigs"]
    template = config["LaunchTemplateSpecification"]
    arguments = world.cloud.client_arguments()
    (version,) = boto3.client("ec2", **arguments).describe_launch_template_versions(
        LaunchTemplateId=template["LaunchTemplateId"], Versions=[template["Version"]]
    )["LaunchTemplateVersions"]
    image = boto3.client("ssm", **arguments).get_parameter(Name=AMI_PARAMETERS[kind])
    return bool(version["LaunchTemplateData"]["ImageId"] == image["Parameter"]["Value"])


@pytest.mark.parametrize(
    "resources",
    [
        Resources(vcpus=4, memory_mib=8192),  # as inf1.xlarge
        Resources(vcpus=4, memory_mib=16_384),  # as g4ad.xlarge and g6.xlarge
        Resources(vcpus=12, memory_mib=24_576),  # as vt1.3xlarge
        Resources(vcpus=8, memory_mib=32_768),  # as trn1.2xlarge
        Resources(vcpus=4, memory_mib=8192, architecture="arm64"),  # as g5g.xlarge
    ],
)
async def test_a_job_without_gpus_is_offered_no_type_with_an_accelerator(
    world: Ec2World, resources: Resources
) -> None:
    offered = types_of(world, await planned(world, resources))
    assert offered
    assert [each["InstanceType"] for each in offered if any(map(each.get, ACCELERATORS))] == []


@pytest.mark.parametrize("gpus", [1, 4, 8])
async def test_a_job_with_gpus_is_offered_as_many_of_nvidia_s_and_boots_their_image(
    world: Ec2World, gpus: int
) -> None:
    plan = await planned(world, Resources(gpus=gpus))
    offered = types_of(world, plan)
    assert offered
    for each in offered:
        assert {gpu["Manufacturer"] for gpu in each["GpuInfo"]["Gpus"]} == {"NVIDIA"}
        assert sum(gpu["Count"] for gpu in each["GpuInfo"]["Gpus"]) >= gpus
        assert each["ProcessorInfo"]["SupportedArchitectures"] == ["x86_64"]
    assert boots(world, plan, "gpu")


async def test_the_cloud_has_gpus_that_are_not_nvidia_s_and_none_is_offered(
    world: Ec2World,
) -> None:
    ec2 = boto3.client("ec2", **world.cloud.client_arguments())
    shown = ec2.describe_instance_types(InstanceTypes=["g4ad.xlarge", "dl1.24xlarge"])
    makers = {each["GpuInfo"]["Gpus"][0]["Manufacturer"] for each in shown["InstanceTypes"]}
    assert makers == {"AMD", "Habana"}
    offered = types_of(world, await planned(world, Resources(gpus=1, vcpus=4)))
    assert {each["InstanceType"] for each in offered} & {"g4ad.xlarge", "dl1.24xlarge"} == set()


async def test_gpus_with_arm_are_rejected_in_words(world: Ec2World) -> None:
    with pytest.raises(Rejected, match="x86_64 alone"):
        await planned(world, Resources(gpus=1, architecture="arm64"))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("g6.xlarge", "gpu"),
        ("g6f.large", "gpu"),
        ("g4ad.xlarge", "x86_64"),
    ],
)
async def test_a_named_type_boots_nvidia_s_image_only_where_that_runs(
    world: Ec2World, name: str, kind: str
) -> None:
    assert boots(world, await planned(world, Resources(instance_types=(name,))), kind)


async def test_gpus_on_arm_that_a_job_names_are_left_out_or_rejected_in_words(
    world: Ec2World,
) -> None:
    mixed = types_of(world, await planned(world, Resources(instance_types=MIXED)))
    assert [each["InstanceType"] for each in mixed] == ["m7g.large"]
    with pytest.raises(Rejected, match=r"does not run on g5g\.xlarge .*NVIDIA's driver x86_64"):
        await planned(world, Resources(instance_types=("g5g.xlarge",)))


async def test_an_image_of_the_operator_s_own_may_have_a_driver_for_gpus_on_arm(
    world: Ec2World,
) -> None:
    ssm = boto3.client("ssm", **world.cloud.client_arguments())
    image = ssm.get_parameter(Name=AMI_PARAMETERS["arm64"])["Parameter"]["Value"]
    own = replace(SETTINGS, image_id=image, architecture="arm64")
    plan = await planned(world, Resources(instance_types=("g5g.xlarge",)), own)
    assert [each["InstanceType"] for each in types_of(world, plan)] == ["g5g.xlarge"]
