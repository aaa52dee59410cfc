"""Quotas by family: one that is used up rests, and the launcher goes on with the others."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from fake_aws.quotas import CODES, GROUPS, NEW_ACCOUNT, Quotas
from fake_aws.settings import CloudSettings
from services.launcher.config import LauncherConfig
from services.launcher.service import build
from shared.clock import VirtualClock
from shared.compute.ec2.quotas import QUOTAS
from shared.compute.ec2.settings import Ec2Settings
from shared.events.events import InstanceLaunched, LaunchDelayed
from shared.events.requirements import Resources
from shared.runtime.service import Ports
from tests.integration.test_launcher import requested
from tests.support.compute.compute_api import FakeApi
from tests.support.compute.compute_ec2 import PROFILE, Ec2World
from tests.support.compute.stage import Stage

CONFIG = LauncherConfig(
    deployment="test", api_url="http://api", token_key="key", gather_idle_seconds=0
)
SETTINGS = Ec2Settings(instance_profile=PROFILE, max_lifetime_seconds=120)
LAUNCH = "launch_due_1"
LARGER_FIRST = {"quota_ends_fleet": True, "larger_types_first": True}
BOTH = Resources(instance_types=("g4dn.xlarge", "m5.large"))


@pytest.fixture
async def ports(ports_of: Callable[[str], Awaitable[Ports]]) -> Ports:
    return await ports_of("launcher")


@pytest.fixture(
    params=[{"quota_ends_fleet": True}, {"quota_ends_fleet": False}], ids=["stops", "goes_on"]
)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[Ec2World]:
    world = Ec2World(FakeApi(), boot="none", new_account_quotas=True, **request.param)
    yield world
    await world.close()


@pytest.fixture
def stage(ports: Ports, world: Ec2World) -> Stage:
    return Stage(build(CONFIG, ports, world.adapter(settings=SETTINGS)))


def test_the_fake_has_the_quotas_of_the_product_s_table() -> None:
    ours = {(each.market, each.code, each.default_vcpus) for each in QUOTAS}
    assert ours == {
        (market, code, NEW_ACCOUNT.get(group, 0)) for (market, group), code in CODES.items()
    }
    assert {family for each in QUOTAS for family in each.families} <= set(GROUPS)


async def test_a_family_without_a_quota_is_named_with_the_way_to_raise_it(
    stage: Stage, world: Ec2World
) -> None:
    await stage.deliver(requested(1, resources=Resources(gpus=1)))
    await stage.sweep(LAUNCH)
    (delay,) = await stage.published(LaunchDelayed)
    assert delay.reason == "quota_reached"
    assert delay.message.startswith("MaxSpotInstanceCountExceeded: ")
    assert "All G and VT Spot Instance Requests" in delay.message
    assert "--quota-code L-3819A6DF" in delay.message
    assert "--region us-east-1" in delay.message
    assert world.cloud.control.instances() == []


async def test_another_family_is_tried_at_once(
    stage: Stage, world: Ec2World, clock: VirtualClock
) -> None:
    world.cloud.control.set_quota(0, family="m")
    world.cloud.control.set_quota(4, family="g")
    await stage.deliver(requested(1, resources=BOTH))
    await stage.sweep(LAUNCH)
    clock.advance(1.5)
    await stage.sweep(LAUNCH)
    assert [each.instance_type for each in await stage.published(InstanceLaunched)] == [
        "g4dn.xlarge"
    ]


async def test_a_call_refused_as_a_whole_is_repeated_with_one_family_at_a_time(
    stage: Stage, world: Ec2World, clock: VirtualClock
) -> None:
    control = world.cloud.control
    control.set_quota(4, family="g")
    control.fail("CreateFleet", code="MaxSpotInstanceCountExceeded", times=1)
    await stage.deliver(requested(1, resources=BOTH))
    await stage.sweep(LAUNCH)
    assert "L-3819A6DF" in (await stage.published(LaunchDelayed))[-1].message
    control.set_quota(0, family="m")
    for _ in range(3):
        clock.advance(5)
        await stage.sweep(LAUNCH)
    assert [each.instance_type for each in await stage.published(InstanceLaunched)] == [
        "g4dn.xlarge"
    ]


async def test_a_quota_that_rests_is_asked_again_when_no_other_family_is_left(
    stage: Stage, world: Ec2World, clock: VirtualClock
) -> None:
    world.cloud.control.set_quota(0)
    await stage.deliver(requested(1, resources=BOTH))
    for _ in range(3):
        await stage.sweep(LAUNCH)
        clock.advance(1.5)
    delays = await stage.published(LaunchDelayed)
    assert delays[-1].reason == "quota_reached"
    assert "L-3819A6DF" in delays[-1].message
    world.cloud.control.set_quota(4, family="g")
    for _ in range(2):  # one family at a time, each after a pause less than the rest of a quota
        clock.advance(30)
        await stage.sweep(LAUNCH)
    assert [each.instance_type for each in await stage.published(InstanceLaunched)] == [
        "g4dn.xlarge"
    ]


@pytest.mark.parametrize("world", [LARGER_FIRST, {"quota_ends_fleet": False}], indirect=True)
async def test_a_quota_without_room_for_a_larger_type_is_asked_for_a_smaller_one(
    stage: Stage, world: Ec2World, clock: VirtualClock
) -> None:
    world.cloud.control.set_quota(4, family="g")
    named = Resources(instance_types=("g4dn.xlarge", "g4dn.2xlarge", "g4dn.4xlarge"))
    await stage.deliver(requested(1, resources=named))
    for _ in range(4):
        await stage.sweep(LAUNCH)
        clock.advance(5)
    assert [each.instance_type for each in await stage.published(InstanceLaunched)] == [
        "g4dn.xlarge"
    ]


@pytest.mark.parametrize("world", [LARGER_FIRST], indirect=True)
async def test_the_smallest_type_is_asked_for_again_until_an_instance_has_ended(
    stage: Stage, world: Ec2World, clock: VirtualClock
) -> None:
    control = world.cloud.control
    control.set_quota(4, family="g")
    named = Resources(instance_types=("g4dn.xlarge", "g4dn.2xlarge"))
    await stage.deliver(requested(1, resources=named), requested(2, resources=named))
    for _ in range(8):
        await stage.sweep(LAUNCH)
        clock.advance(30)
    assert len(await stage.published(InstanceLaunched)) == 1
    assert (await stage.published(LaunchDelayed))[-1].reason == "quota_reached"
    message = (await stage.published(LaunchDelayed))[-1].message
    assert "has no room for 4 vCPUs" in message
    control.set_quota(8, family="g")  # as if an instance had ended
    for _ in range(4):
        clock.advance(60)
        await stage.sweep(LAUNCH)
    assert [each.instance_type for each in await stage.published(InstanceLaunched)] == [
        *("g4dn.xlarge", "g4dn.xlarge")
    ]


@pytest.mark.parametrize("world", [{"quota_ends_fleet": True}], indirect=True)
async def test_a_limit_of_instances_is_a_quota_too_and_another_family_is_tried(
    stage: Stage, world: Ec2World, clock: VirtualClock
) -> None:
    world.cloud.control.set_quota(4, family="g")
    world.cloud.control.fail_pool(
        "InstanceLimitExceeded",
        instance_type="m5.large",
        message="Your quota allows for 0 more running instance(s). You requested at least 1",
    )
    await stage.deliver(requested(1, resources=BOTH))
    await stage.sweep(LAUNCH)
    assert "L-34B43A08" in (await stage.published(LaunchDelayed))[-1].message
    for _ in range(2):
        clock.advance(5)
        await stage.sweep(LAUNCH)
    assert [each.instance_type for each in await stage.published(InstanceLaunched)] == [
        "g4dn.xlarge"
    ]


async def test_the_vcpus_of_the_standard_families_are_counted_together(
    stage: Stage, world: Ec2World
) -> None:
    await stage.deliver(*(requested(each) for each in range(1, 5)))
    await stage.sweep(LAUNCH)
    assert len(world.cloud.control.instances()) == 2  # of two vCPUs each: a new account has five
    assert {each.reason for each in await stage.published(LaunchDelayed)} == {"quota_reached"}


async def test_an_on_demand_quota_is_another(stage: Stage, world: Ec2World) -> None:
    world.cloud.control.set_quota(0, market="on-demand")
    await stage.deliver(requested(1, capacity="on_demand"))
    await stage.sweep(LAUNCH)
    (delay,) = await stage.published(LaunchDelayed)
    assert delay.message.startswith("VcpuLimitExceeded: ")
    assert "L-1216C47A" in delay.message


def test_the_fake_shows_a_quota_by_its_code() -> None:
    quotas = Quotas(CloudSettings(new_account_quotas=True, on_demand_vcpus=8))
    assert [quotas.limit_of(each) for each in ("L-34B43A08", "L-3819A6DF", "L-DB2E81BA")] == [
        *(5, 0, 8)
    ]
    with pytest.raises(KeyError):
        quotas.limit_of("L-00000000")
