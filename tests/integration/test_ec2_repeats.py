"""CreateFleet repeated on the strict EC2: it launches nothing more, and perhaps lists nothing.

No attempt holds two instances, and a slow call is not made twice.
"""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from msgspec.structs import replace

from services.launcher.config import LauncherConfig
from services.launcher.service import build
from shared.clock import VirtualClock
from shared.compute.ec2 import launching
from shared.compute.ec2.under_way import NOTHING_YET_SECONDS
from shared.events.events import InstanceLaunched, LaunchDelayed, LaunchRefused
from shared.runtime.service import Ports
from tests.integration.test_ec2_launcher import assert_each_has_one, jobs, until_settled
from tests.support.compute.compute_adapters import eventually
from tests.support.compute.compute_api import FakeApi
from tests.support.compute.compute_ec2 import SETTINGS, Ec2World
from tests.support.compute.stage import Stage

CONFIG = LauncherConfig(
    deployment="test", api_url="http://api", token_key="key", gather_idle_seconds=0
)
SHORT = LauncherConfig(
    deployment="test",
    api_url="http://api",
    token_key="key",
    gather_idle_seconds=0,
    call_seconds=1,
)
LAUNCH = "launch_due_1"
SPEED = 200.0


@pytest.fixture
async def ports(ports_of: Callable[[str], Awaitable[Ports]]) -> Ports:
    return await ports_of("launcher")


@pytest.fixture(params=[True, False], ids=["lists", "lists nothing"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[Ec2World]:
    world = Ec2World(
        FakeApi(),
        boot="none",
        speed=SPEED,
        fleet_token_lists_instances=request.param,
        visible_after_seconds=1.5 * SPEED,  # longer than the first looks
    )
    yield world
    await world.close()


def settling(stage: Stage, clock: VirtualClock) -> Callable[[], Awaitable[bool]]:
    """Make the condition that nothing waits, which each look brings nearer by a sweep."""

    async def settled() -> bool:
        clock.advance(5)
        return await stage.sweep(LAUNCH) is None

    return settled


async def test_a_lost_answer_s_instances_are_adopted_whatever_the_repeated_call_lists(
    ports: Ports, world: Ec2World, clock: VirtualClock
) -> None:
    stage = Stage(build(CONFIG, ports, world.adapter()))
    world.cloud.control.fail("CreateFleet", "lost_after")
    await stage.deliver(*jobs(4))
    await stage.sweep(LAUNCH)
    clock.advance(CONFIG.lease_seconds)
    await until_settled(stage, clock)
    await assert_each_has_one(stage, world, 4)
    calls = world.cloud.control.calls("CreateFleet")
    assert [each.outcome for each in calls] == ["lost", "ok"]


async def test_instances_of_a_lost_answer_are_adopted_and_the_rest_is_asked_for_again(
    ports: Ports, world: Ec2World, clock: VirtualClock
) -> None:
    control = world.cloud.control
    control.set_capacity(0)
    control.set_capacity(2, market="spot", instance_type="m5.large", zone="us-east-1a")
    settings = replace(SETTINGS, pool_rest_seconds=0.0)
    stage = Stage(build(CONFIG, ports, world.adapter(settings=settings)))
    control.fail("CreateFleet", "lost_after")
    await stage.deliver(*jobs(5))
    await stage.sweep(LAUNCH)
    clock.advance(CONFIG.lease_seconds)
    await stage.sweep(LAUNCH)
    assert len(await stage.published(InstanceLaunched)) == 2
    control.set_capacity(None)
    clock.advance(CONFIG.lease_seconds)
    await until_settled(stage, clock)
    await assert_each_has_one(stage, world, 5)


async def test_throttled_pools_of_a_repeated_call_leave_no_launch_that_shares_an_instance(
    ports: Ports, world: Ec2World, clock: VirtualClock
) -> None:
    control = world.cloud.control
    control.set_capacity(0)
    control.set_capacity(2, market="spot", instance_type="m5.large", zone="us-east-1a")
    control.fail_pool("RequestLimitExceeded", instance_type="c5.large")
    settings = replace(SETTINGS, pool_rest_seconds=0.0)
    stage = Stage(build(CONFIG, ports, world.adapter(settings=settings)))
    control.fail("CreateFleet", "lost_after")
    await stage.deliver(*jobs(5))
    await stage.sweep(LAUNCH)
    clock.advance(CONFIG.lease_seconds)
    await stage.sweep(LAUNCH)
    control.heal()
    control.set_capacity(None)
    clock.advance(CONFIG.lease_seconds)
    await until_settled(stage, clock)
    await assert_each_has_one(stage, world, 5)


async def test_a_look_that_is_not_allowed_names_the_permission_and_the_launch_stays_open(
    ports: Ports, world: Ec2World, clock: VirtualClock
) -> None:
    stage = Stage(build(CONFIG, ports, world.adapter()))
    world.cloud.control.fail("CreateFleet", "lost_after")
    await stage.deliver(*jobs(2))
    await stage.sweep(LAUNCH)
    for call in ("CreateFleet", "DescribeInstances"):
        world.cloud.control.fail(call, code="UnauthorizedOperation", status=403, times=None)
    clock.advance(CONFIG.lease_seconds)
    await stage.sweep(LAUNCH)
    delay = (await stage.published(LaunchDelayed))[-1]
    assert "docs/iam/launcher.json" in (delay.to_change or "")
    world.cloud.control.heal()
    clock.advance(CONFIG.lease_seconds)
    await until_settled(stage, clock)
    await assert_each_has_one(stage, world, 2)


async def test_a_look_that_fails_is_followed_by_another_and_not_by_a_call(
    ports: Ports, world: Ec2World, clock: VirtualClock
) -> None:
    stage = Stage(build(CONFIG, ports, world.adapter()))
    world.cloud.control.fail("CreateFleet", "lost_after")
    await stage.deliver(*jobs(4))
    await stage.sweep(LAUNCH)
    world.cloud.control.fail("DescribeInstances", code="Unavailable", status=503, times=2)
    clock.advance(CONFIG.lease_seconds)
    await stage.sweep(LAUNCH)
    await assert_each_has_one(stage, world, 4)
    assert len(world.cloud.control.calls("CreateFleet")) == 2


async def test_a_call_that_is_given_up_and_goes_on_launches_each_job_once(
    ports: Ports, world: Ec2World, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the first call is over, EC2 shows nothing of it and the repeated one is empty."""
    monkeypatch.setattr(launching, "VISIBLE_TRIES", 3)  # a third of a second for nine
    stage = Stage(build(SHORT, ports, world.adapter()))
    world.cloud.control.fail("CreateFleet", "delay_after", seconds=4.0)
    await stage.deliver(*jobs(3, capacity="spot", spot_wait_seconds=0))
    await stage.sweep(LAUNCH)
    for _ in range(2):
        clock.advance(5)
        await stage.sweep(LAUNCH)
    assert {each.reason for each in await stage.published(LaunchDelayed)} == {"unknown_outcome"}
    await eventually(settling(stage, clock))
    assert await stage.published(LaunchRefused) == []
    calls = world.cloud.control.calls("CreateFleet")
    assert len({each.params["ClientToken"] for each in calls if each.params}) == 1
    await assert_each_has_one(stage, world, 3)


@pytest.mark.parametrize(
    "refusal",
    [
        *("SomeNewCode", "MaxSpotInstanceCountExceeded", "UnauthorizedOperation"),
        *("InvalidLaunchTemplateId.NotFound", "InvalidInstanceType"),
    ],
)
async def test_a_refused_repetition_proves_nothing_about_the_first_call(
    ports: Ports,
    world: Ec2World,
    clock: VirtualClock,
    monkeypatch: pytest.MonkeyPatch,
    refusal: str,
) -> None:
    monkeypatch.setattr(launching, "VISIBLE_TRIES", 2)
    stage = Stage(build(SHORT, ports, world.adapter()))
    world.cloud.control.fail("CreateFleet", "delay_after", seconds=3.0)
    await stage.deliver(*jobs(3))
    await stage.sweep(LAUNCH)
    world.cloud.control.fail("CreateFleet", code=refusal, status=400)
    clock.advance(5)
    await stage.sweep(LAUNCH)
    assert refusal in [each.outcome for each in world.cloud.control.calls("CreateFleet")]
    await eventually(settling(stage, clock))
    await assert_each_has_one(stage, world, 3)


@pytest.mark.parametrize("world", [False], indirect=True, ids=["lists nothing"])
async def test_what_ec2_shows_nothing_of_for_minutes_is_asked_for_anew(
    ports: Ports, world: Ec2World, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "VISIBLE_TRIES", 1)
    settings = replace(SETTINGS, pool_rest_seconds=0.0)
    stage = Stage(build(CONFIG, ports, world.adapter(settings=settings)))
    world.cloud.control.set_capacity(0)
    world.cloud.control.fail("CreateFleet", "lost_after")
    await stage.deliver(*jobs(2))
    await stage.sweep(LAUNCH)
    for seconds in (CONFIG.lease_seconds, NOTHING_YET_SECONDS):
        clock.advance(seconds)
        await stage.sweep(LAUNCH)
    reasons = {each.reason: each.message for each in await stage.published(LaunchDelayed)}
    assert list(reasons) == ["unknown_outcome", "no_capacity"]
    world.cloud.control.set_capacity(None)
    clock.advance(CONFIG.lease_seconds)
    await until_settled(stage, clock)
    await assert_each_has_one(stage, world, 2)


@pytest.mark.parametrize("world", [True], indirect=True, ids=["lists"])
async def test_of_an_answer_that_lists_some_the_rest_is_looked_for_once(
    ports: Ports, world: Ec2World, clock: VirtualClock
) -> None:
    control = world.cloud.control
    control.set_capacity(0)
    control.set_capacity(2, market="spot", instance_type="m5.large", zone="us-east-1a")
    stage = Stage(build(CONFIG, ports, world.adapter()))
    control.fail("CreateFleet", "lost_after")
    await stage.deliver(*jobs(5))
    await stage.sweep(LAUNCH)
    clock.advance(CONFIG.lease_seconds)
    await stage.sweep(LAUNCH)
    looks = [
        each
        for each in control.calls("DescribeInstances")
        if any(it["Name"] == "tag:docker-job:launch" for it in each.params.get("Filters", ()))
    ]
    assert len(looks) == 1


async def test_a_slow_call_for_many_is_waited_for_and_not_repeated(
    ports: Ports, world: Ec2World, clock: VirtualClock
) -> None:
    # As 500 launches with 30 s and 0.125 s each, in haste: without the longer wait it is repeated.
    config = LauncherConfig(
        deployment="test",
        api_url="http://api",
        token_key="key",
        gather_idle_seconds=0,
        call_seconds=1,
        call_launches=10,
        call_seconds_each=0.5,
    )
    world.cloud.control.fail("CreateFleet", "delay", seconds=3.0)
    stage = Stage(build(config, ports, world.adapter()))
    await stage.deliver(*jobs(40))
    await until_settled(stage, clock)
    assert len(world.cloud.control.calls("CreateFleet")) == 1
    assert await stage.published(LaunchDelayed) == []
    await assert_each_has_one(stage, world, 40)


def test_the_time_for_a_call_and_its_lease_grow_with_its_launches() -> None:
    growing, constant = CONFIG.growth(gathers=True), CONFIG.growth(gathers=False)
    assert [growing.seconds(each) for each in (1, 100, 500)] == [0, 0, 50]
    assert constant.seconds(500) == 0
