"""What the deployment or its account lacks is named, whatever EC2's code, and fails no job.

Each refusal is EC2's own, with the words by which one code of several meanings is read.
"""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from msgspec.structs import replace

from services.launcher.service import build
from shared.clock import VirtualClock
from shared.compute.ec2.settings import Ec2Settings
from shared.events.events import InstanceLaunched, LaunchDelayed, LaunchRefused
from shared.events.requirements import Resources
from shared.runtime.service import Ports
from tests.integration.test_ec2_refusals import CONFIG, LAUNCH, RESTLESS, settle
from tests.integration.test_launcher import requested
from tests.support.compute.compute_api import FakeApi
from tests.support.compute.compute_ec2 import SETTINGS, Ec2World
from tests.support.compute.stage import Stage

Staging = Callable[..., Stage]
ACCOUNT, FREE_PLAN = "AWS Support", "free plan"
IMAGE, MARKETPLACE, DISK = "DOCKER_JOB_EC2_IMAGE_ID", "AWS Marketplace", "DOCKER_JOB_EC2_DISK_GIB"
SUBNETS, GROUPS = "DOCKER_JOB_EC2_SUBNETS", "DOCKER_JOB_EC2_SECURITY_GROUPS"
KEY_NAME, KMS = "DOCKER_JOB_EC2_KEY_NAME", "KMS key"
PRICE, QUOTA, TENANCY = "DOCKER_JOB_EC2_MAX_PRICE_USD", "Service Quotas", "tenancy"
CREDENTIALS = "clock"
TO_CHANGE = [
    ("AuthFailure", "Not authorized for images: [ami-5287d500]", IMAGE),
    (
        "InvalidParameterCombination",
        "The specified instance type is not eligible for Free Tier.",
        FREE_PLAN,
    ),
    (
        "OptInRequired",
        "In order to use this AWS Marketplace product you need to accept terms and subscribe.",
        MARKETPLACE,
    ),
    (
        "Unsupported",
        "The instance configuration for this AWS Marketplace product is not supported.",
        MARKETPLACE,
    ),
    ("OptInRequired", "You are not subscribed to this service.", ACCOUNT),
    ("AccountDisabled", "Your account is disabled.", ACCOUNT),
    ("InvalidSnapshot.NotFound", "The snapshot 'snap-1' does not exist.", IMAGE),
    ("EncryptedVolumesNotSupported", "Encrypted volumes are not supported.", IMAGE),
    (
        "InvalidParameterValue",
        "The t2.micro instance type does not support an AMI with a boot mode of UEFI.",
        IMAGE,
    ),
    ("UnsupportedOperation", "UEFI is not supported for this instance type.", IMAGE),
    (
        "InvalidParameterCombination",
        "Non-Windows instances with a virtualization type of 'hvm' are currently not supported.",
        IMAGE,
    ),
    (
        "InvalidParameterCombination",
        "Enhanced networking with the Elastic Network Adapter (ENA) is required.",
        IMAGE,
    ),
    ("UnsupportedOperation", "The tenancy 'dedicated' is not supported for this type.", TENANCY),
    ("VPCIdNotSpecified", "No default VPC for this user", SUBNETS),
    ("MissingInput", "No subnets found for the default VPC 'vpc-1'.", SUBNETS),
    ("InvalidParameterValue", "There is no default VPC for this account.", SUBNETS),
    ("InvalidKeyPair.Format", "Invalid format for the key pair.", KEY_NAME),
    ("InvalidGroupId.Malformed", 'Invalid id: "sg"', GROUPS),
    ("SecurityGroupsPerInterfaceLimitExceeded", "Too many security groups.", GROUPS),
    ("InvalidBlockDeviceMapping", "Volume of size 8GB is smaller than snapshot 'snap-1'.", DISK),
    ("Client.InvalidKMSKey.InvalidState", "The KMS key provided is in an incorrect state", KMS),
    ("NetworkInterfaceLimitExceeded", "Maximum number of network interfaces reached.", QUOTA),
    ("VolumeLimitExceeded", "You have exceeded your maximum gp3 storage limit.", QUOTA),
    ("MaxSpotFleetRequestCountExceeded", "Max spot fleet request count exceeded.", QUOTA),
    ("SpotMaxPriceTooLow", "Your Spot request price of 0.001 is lower than 0.0374.", PRICE),
    ("InsufficientFreeAddressesInSubnet", "There are not enough free addresses.", SUBNETS),
    ("RequestExpired", "Request has expired.", CREDENTIALS),
    ("ExpiredToken", "The security token included in the request is expired", CREDENTIALS),
    ("AuthFailure", "AWS was not able to validate the provided access credentials", CREDENTIALS),
]


@pytest.fixture
async def ports(ports_of: Callable[[str], Awaitable[Ports]]) -> Ports:
    return await ports_of("launcher")


@pytest.fixture
async def world() -> AsyncIterator[Ec2World]:
    world = Ec2World(FakeApi(), boot="none", visible_after_seconds=0)
    yield world
    await world.close()


@pytest.fixture
def staging(ports: Ports, world: Ec2World) -> Staging:
    """Make a launcher with these settings."""

    def make(settings: Ec2Settings = RESTLESS) -> Stage:
        return Stage(build(CONFIG, ports, world.adapter(settings=settings)))

    return make


async def named_by_readiness(stage: Stage) -> str:
    """Return what readiness names as degraded, after its sweep."""
    await stage.sweep("report_troubles")
    return dict((await stage.service.look()).degraded).get("launches", "")


async def test_a_fault_of_the_deployment_names_what_to_change_and_ends_no_wait_for_spot(
    staging: Staging, world: Ec2World, clock: VirtualClock
) -> None:
    stage, control = staging(), world.cloud.control
    for job_id, (code, message, change) in enumerate(TO_CHANGE, start=1):
        control.fail_pool(code, message=message)
        await stage.deliver(requested(job_id, capacity="spot", spot_wait_seconds=1))
        for place in ("pools", "call"):  # the call long after the wait for Spot
            case = f"{code} of {place}"
            assert await stage.sweep(LAUNCH) is not None, case
            delay = (await stage.published(LaunchDelayed))[-1]
            assert delay.job_id == job_id, case
            assert f"{code}: {message}" in delay.message, case
            assert change in (delay.to_change or ""), case
            assert change in await named_by_readiness(stage), case
            control.heal()
            control.fail("CreateFleet", code=code, status=400, message=message, times=None)
            clock.advance(CONFIG.lease_seconds + 600)
        control.heal()
        await settle(stage, clock)
        assert len(await stage.published(InstanceLaunched)) == job_id, code
    assert await stage.published(LaunchRefused) == []
    assert await named_by_readiness(stage) == ""


CHEAP = replace(SETTINGS, max_price_usd=0.002)


@pytest.mark.parametrize("settings", [CHEAP, replace(CHEAP, pool_rest_seconds=0.0)])
async def test_a_maximum_price_below_the_market_is_named_also_while_its_pools_rest(
    staging: Staging, clock: VirtualClock, settings: Ec2Settings
) -> None:
    stage = staging(settings)
    await stage.deliver(requested(1, capacity="spot", spot_wait_seconds=1))
    for _ in range(4):
        assert await stage.sweep(LAUNCH) is not None
        delay = (await stage.published(LaunchDelayed))[-1]
        assert "request price of 0.002 is lower than" in delay.message
        assert "no more Spot capacity" not in delay.message
        assert PRICE in (delay.to_change or "")
        assert PRICE in await named_by_readiness(stage)
        clock.advance(70)
    assert await stage.published(LaunchRefused) == []
    await settle(staging(), clock)
    assert len(await stage.published(InstanceLaunched)) == 1


async def test_a_full_subnet_beside_a_pool_without_capacity_is_a_lack_of_capacity(
    staging: Staging, world: Ec2World, clock: VirtualClock
) -> None:
    world.cloud.control.fail_pool("InsufficientFreeAddressesInSubnet", zone="us-east-1a")
    world.cloud.control.fail_pool("InsufficientInstanceCapacity")
    stage = staging(SETTINGS)
    await stage.deliver(requested(1, capacity="spot", spot_wait_seconds=1))
    await stage.sweep(LAUNCH)
    (delay,) = await stage.published(LaunchDelayed)
    assert delay.to_change is None
    assert "no more Spot capacity" in delay.message
    clock.advance(60)  # the pools rest
    assert await stage.sweep(LAUNCH) is None
    (refused,) = await stage.published(LaunchRefused)
    assert refused.reason == "no_capacity"


async def test_full_subnets_and_a_low_price_are_both_named(
    staging: Staging, world: Ec2World
) -> None:
    world.cloud.control.fail_pool("InsufficientFreeAddressesInSubnet", zone="us-east-1a")
    world.cloud.control.fail_pool("SpotMaxPriceTooLow")
    stage = staging()
    await stage.deliver(requested(1, capacity="spot", spot_wait_seconds=1))
    await stage.sweep(LAUNCH)
    (delay,) = await stage.published(LaunchDelayed)
    assert SUBNETS in (delay.to_change or "")
    assert PRICE in (delay.to_change or "")


TYPO = replace(RESTLESS, instance_types=("m9.large",))
LARGE = replace(RESTLESS, instance_types=(), vcpus=1000)


@pytest.mark.parametrize(
    ("settings", "wants"),
    [
        (TYPO, Resources()),
        (TYPO, Resources(disk_gib=50)),
        (LARGE, Resources(architecture="arm64")),
        (LARGE, Resources(architecture="x86_64", disk_gib=50)),
        (LARGE, Resources(gpus=0)),
    ],
)
async def test_a_job_that_names_neither_types_nor_sizes_is_spared_the_deployment_s(
    staging: Staging, clock: VirtualClock, settings: Ec2Settings, wants: Resources
) -> None:
    stage = staging(settings)
    await stage.deliver(requested(1, resources=wants))
    assert await stage.sweep(LAUNCH) is not None
    (delay,) = await stage.published(LaunchDelayed)
    assert "DOCKER_JOB_EC2_INSTANCE_TYPES" in (delay.to_change or "")
    clock.advance(600)
    await settle(staging(), clock)
    assert len(await stage.published(InstanceLaunched)) == 1
    assert await stage.published(LaunchRefused) == []


@pytest.mark.parametrize(
    "wants", [Resources(vcpus=1000), Resources(memory_mib=10**9), Resources(gpus=100)]
)
async def test_a_size_of_the_job_s_own_that_no_type_has_is_refused(
    staging: Staging, wants: Resources
) -> None:
    stage = staging()
    await stage.deliver(requested(1, resources=wants))
    assert await stage.sweep(LAUNCH) is None
    (refused,) = await stage.published(LaunchRefused)
    assert "no instance type has" in refused.message
