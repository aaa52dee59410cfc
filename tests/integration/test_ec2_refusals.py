"""Each refusal of AWS ends in a job that runs later, except what the job itself asks for.

Each code is injected into each call on the way to an instance, and into the pools of a fleet's
answer. The strict cloud's own refusals (a bad subnet, a type that does not exist) come beside them.
"""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from msgspec.structs import replace

from services.launcher.config import LauncherConfig
from services.launcher.service import build
from shared.clock import VirtualClock
from shared.compute.ec2.settings import Ec2Settings
from shared.events.events import InstanceLaunched, LaunchDelayed, LaunchRefused
from shared.events.requirements import Resources
from shared.runtime.service import Ports
from tests.integration.test_launcher import requested
from tests.support.compute.compute_api import FakeApi
from tests.support.compute.compute_ec2 import SETTINGS, Ec2World
from tests.support.compute.stage import Stage

CONFIG = LauncherConfig(
    deployment="test", api_url="http://api", token_key="key", gather_idle_seconds=0
)
LAUNCH = "launch_due_1"
RESTLESS = replace(SETTINGS, pool_rest_seconds=0.0)

CAPACITY = (
    *("InsufficientInstanceCapacity", "InsufficientHostCapacity", "InsufficientAddressCapacity"),
    *("InsufficientVolumeCapacity", "InsufficientFreeAddressesInSubnet", "UnfulfillableCapacity"),
    *("InsufficientReservedInstanceCapacity", "ReservationCapacityExceeded", "SpotMaxPriceTooLow"),
)
QUOTAS = (
    *("MaxSpotInstanceCountExceeded", "MaxFleetCountExceeded", "VcpuLimitExceeded"),
    *("InstanceLimitExceeded", "VolumeLimitExceeded", "NetworkInterfaceLimitExceeded"),
)
ACCOUNT = (
    *("PendingVerification", "OptInRequired", "Blocked", "AuthFailure", "UnauthorizedOperation"),
    *("AuthFailure.ServiceLinkedRoleCreationNotPermitted", "InvalidClientTokenId"),
)
SETTING = (
    *("InvalidAMIID.NotFound", "InvalidAMIID.Unavailable", "InvalidAMIID.Malformed"),
    *("InvalidSubnetID.NotFound", "InvalidSubnet", "InvalidGroup.NotFound"),
    *("InvalidSecurityGroupID.NotFound", "InvalidKeyPair.NotFound", "InvalidParameter"),
    *("InvalidParameterValue", "InvalidParameterCombination", "MissingParameter"),
    *("ValidationError", "InvalidLaunchTemplateConfig", "InvalidBlockDeviceMapping"),
)
TEMPLATE = (
    *("InvalidLaunchTemplateId.NotFoundException", "InvalidLaunchTemplateName.NotFoundException"),
    *("InvalidLaunchTemplateId.NotFound", "InvalidLaunchTemplateName.NotFound"),
    *("InvalidLaunchTemplateId.VersionNotFound", "InvalidLaunchTemplateVersion.NotFound"),
)
OTHER = ("Unsupported", "RequestLimitExceeded", "SomethingNew", "Client.SomethingNew", "")
GROUPS = {
    "capacity": CAPACITY,
    "quotas": QUOTAS,
    "account": ACCOUNT,
    "settings": SETTING,
    "template": TEMPLATE,
    "other": OTHER,
}


@pytest.fixture
async def ports(ports_of: Callable[[str], Awaitable[Ports]]) -> Ports:
    return await ports_of("launcher")


@pytest.fixture
async def world() -> AsyncIterator[Ec2World]:
    world = Ec2World(FakeApi(), boot="none", visible_after_seconds=0)
    yield world
    await world.close()


Staging = Callable[..., Stage]


@pytest.fixture
def staging(ports: Ports, world: Ec2World) -> Staging:
    """Make a launcher with these settings."""

    def make(settings: Ec2Settings = RESTLESS) -> Stage:
        return Stage(build(CONFIG, ports, world.adapter(settings=settings)))

    return make


async def settle(stage: Stage, clock: VirtualClock) -> None:
    """Sweep at each due time until nothing waits; a wait is some minutes at most."""
    for _ in range(30):
        due_at = await stage.sweep(LAUNCH)
        if due_at is None:
            return
        wait = (due_at - clock.now()).total_seconds()
        assert wait <= CONFIG.refused.longest
        clock.advance(max(wait, 0))
    pytest.fail("launches are still open")


async def assert_waits_then_runs(
    stage: Stage, world: Ec2World, clock: VirtualClock, job_id: int, code: str
) -> None:
    """Check that the job waits while *code* is armed, is shown why, and runs once it is healed."""
    await stage.deliver(requested(job_id))
    due_at = await stage.sweep(LAUNCH)
    assert due_at is not None, f"{code} is final"
    delay = (await stage.published(LaunchDelayed))[-1]
    assert delay.job_id == job_id, code
    assert code in delay.message
    world.cloud.control.heal()
    clock.advance(CONFIG.lease_seconds)
    await settle(stage, clock)
    launched = await stage.published(InstanceLaunched)
    assert [each.job_id for each in launched] == list(range(1, job_id + 1)), code
    assert len(world.cloud.control.running()) == job_id, code


@pytest.mark.parametrize("group", GROUPS)
async def test_a_launch_that_is_refused_as_a_whole_goes_on_when_the_fault_is_mended(
    staging: Staging, world: Ec2World, clock: VirtualClock, group: str
) -> None:
    stage = staging()
    for job_id, code in enumerate(GROUPS[group], start=1):
        world.cloud.control.fail("CreateFleet", code=code, status=400, message="words", times=None)
        await assert_waits_then_runs(stage, world, clock, job_id, code)
    assert await stage.published(LaunchRefused) == []


@pytest.mark.parametrize("group", GROUPS)
async def test_a_launch_that_every_pool_refuses_goes_on_when_the_fault_is_mended(
    staging: Staging, world: Ec2World, clock: VirtualClock, group: str
) -> None:
    stage = staging()
    for job_id, code in enumerate(GROUPS[group], start=1):
        world.cloud.control.fail_pool(code)
        await assert_waits_then_runs(stage, world, clock, job_id, code)
    assert await stage.published(LaunchRefused) == []


CALLS = (
    *("DescribeSubnets", "DescribeInstanceTypes", "DescribeImages", "GetParameter"),
    *("DescribeLaunchTemplateVersions", "CreateLaunchTemplate"),
)


@pytest.mark.parametrize("call", CALLS)
async def test_a_call_before_the_launch_that_is_refused_goes_on_when_the_fault_is_mended(
    staging: Staging, world: Ec2World, clock: VirtualClock, call: str
) -> None:
    codes = ("ParameterNotFound", "UnauthorizedOperation", "InvalidParameterValue", "SomethingNew")
    for job_id, code in enumerate(codes, start=1):
        stage = staging()  # one that knows no answer yet
        # Each job with contents of its own, so that the template needs a version.
        world.cloud.call(lambda cloud: cloud.templates.by_id.clear())
        world.cloud.control.fail(call, code=code, status=400, message="words", times=None)
        await assert_waits_then_runs(stage, world, clock, job_id, code)
    assert await stage.published(LaunchRefused) == []


@pytest.mark.parametrize(
    ("settings", "code", "setting"),
    [
        (replace(RESTLESS, image_id="ami-00000000"), "InvalidAMIID.NotFound", "_EC2_IMAGE_ID"),
        (replace(RESTLESS, instance_types=("zz.large",)), "zz.large", "_EC2_INSTANCE_TYPES"),
        (replace(RESTLESS, subnets=("subnet-1",)), "InvalidSubnetID.NotFound", "_EC2_SUBNETS"),
        (replace(RESTLESS, security_groups=("sg-1",)), "NotFound", "_EC2_SECURITY_GROUPS"),
        (replace(RESTLESS, instance_profile="none"), "Profile", "_EC2_INSTANCE_PROFILE"),
    ],
)
async def test_the_deployment_s_fault_fails_no_job_and_names_the_setting(
    staging: Staging, clock: VirtualClock, settings: Ec2Settings, code: str, setting: str
) -> None:
    stage = staging(settings)
    await stage.deliver(requested(1, spot_wait_seconds=1))
    assert await stage.sweep(LAUNCH) is not None
    (delay,) = await stage.published(LaunchDelayed)
    assert code in delay.message
    assert f"DOCKER_JOB{setting}" in delay.message
    clock.advance(600)  # long past the wait for Spot, of which this says nothing
    assert await stage.sweep(LAUNCH) is not None
    assert await stage.published(LaunchRefused) == []
    await settle(staging(), clock)
    assert len(await stage.published(InstanceLaunched)) == 1


@pytest.mark.parametrize(
    ("wants", "message"),
    [
        (Resources(instance_types=("zz.large",)), "zz.large"),
        (Resources(gpus=1, architecture="arm64"), "GPUs go with x86_64"),
        (Resources(instance_types=("m5.large",), architecture="arm64"), "none of m5.large"),
    ],
)
async def test_what_a_job_asks_for_and_cannot_have_is_refused_at_once(
    staging: Staging, wants: Resources, message: str
) -> None:
    stage = staging()
    await stage.deliver(requested(1, resources=wants))
    assert await stage.sweep(LAUNCH) is None
    (refused,) = await stage.published(LaunchRefused)
    assert message in refused.message


async def test_a_type_of_the_job_s_own_that_no_zone_offers_is_refused(
    staging: Staging, world: Ec2World
) -> None:
    words = "Your requested instance type (m5.large) is not supported in your requested "
    world.cloud.control.fail_pool(
        "InvalidFleetConfiguration", message=f"{words}Availability Zone (us-east-1a)."
    )
    stage = staging()
    await stage.deliver(requested(1, resources=Resources(instance_types=("m5.large",))))
    assert await stage.sweep(LAUNCH) is None
    (refused,) = await stage.published(LaunchRefused)
    assert words in refused.message


async def test_a_removed_template_is_recreated_at_once_and_its_pools_do_not_rest(
    staging: Staging, world: Ec2World, clock: VirtualClock
) -> None:
    stage = staging(SETTINGS)  # a pool without capacity rests
    world.cloud.control.fail_pool("InvalidLaunchTemplateName.NotFoundException", times=None)
    await stage.deliver(requested(1))
    await stage.sweep(LAUNCH)
    world.cloud.control.heal()
    clock.advance(2)
    await stage.sweep(LAUNCH)
    assert len(await stage.published(InstanceLaunched)) == 1


async def test_an_image_that_was_removed_is_looked_up_again(
    staging: Staging, world: Ec2World, clock: VirtualClock
) -> None:
    stage = staging()
    await stage.deliver(requested(1))
    await settle(stage, clock)
    read = len(world.cloud.control.calls("DescribeImages"))
    world.cloud.control.fail("CreateFleet", code="InvalidAMIID.NotFound", status=400)
    await stage.deliver(requested(2))
    await settle(stage, clock)
    assert len(world.cloud.control.calls("DescribeImages")) == read + 1
    assert len(await stage.published(InstanceLaunched)) == 2
