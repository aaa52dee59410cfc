"""The launcher on the strict EC2: no attempt holds two instances and none is forgotten.

The launcher's clock is moved by hand, so that no lease is waited for; the cloud's is real and in
haste. The cloud's own register of instances is the witness.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from msgspec.structs import replace

from fake_aws.moto_side import instance_type
from fake_aws.prices import GP3_GIB_MONTH_USD, PUBLIC_IPV4_USD
from services.launcher.config import LauncherConfig
from services.launcher.service import build
from shared.clock import VirtualClock
from shared.compute.ec2.compute import Ec2Compute
from shared.compute.ec2.settings import Ec2Settings
from shared.events.events import InstanceLaunched, InstanceRequested, LaunchDelayed, LaunchRefused
from shared.runtime.service import Ports
from tests.integration.test_launcher import requested
from tests.support.compute.compute_adapters import eventually
from tests.support.compute.compute_api import FakeApi
from tests.support.compute.compute_ec2 import SETTINGS, Ec2World, make_profile
from tests.support.compute.stage import Crash, Stage, crashing

CONFIG = LauncherConfig(
    deployment="test", api_url="http://api", token_key="key", gather_idle_seconds=0
)
LAUNCH = "launch_due_1"
STEPS = (
    *("launcher.claimed", "launcher.planned", "launcher.intent_committed", "launcher.calling"),
    *("launcher.called", "launcher.recorded"),
)
THROTTLED: dict[str, Any] = {"kind": "error", "code": "RequestLimitExceeded", "status": 503}


@pytest.fixture
async def ports(ports_of: Callable[[str], Awaitable[Ports]]) -> Ports:
    return await ports_of("launcher")


@pytest.fixture
async def world() -> AsyncIterator[Ec2World]:
    world = Ec2World(FakeApi(), boot="none")
    yield world
    await world.close()


Staging = Callable[..., Stage]


@pytest.fixture
def staging(ports: Ports, world: Ec2World) -> Staging:
    """Make a launcher, as another process would be."""

    def make(settings: Ec2Settings = SETTINGS, at: str = "", compute: Any = None) -> Stage:
        compute = compute or world.adapter(settings=settings)
        return Stage(build(CONFIG, crashing(ports, at) if at else ports, compute))

    return make


async def until_settled(stage: Stage, clock: VirtualClock, rounds: int = 40) -> None:
    """Sweep, a lease later each time, until nothing waits."""
    for _ in range(rounds):
        if await stage.sweep(LAUNCH) is None:
            return
        clock.advance(CONFIG.lease_seconds)
    pytest.fail("launches are still open")


async def assert_each_has_one(stage: Stage, world: Ec2World, jobs: int) -> None:
    """Check that each job has one instance, published once, and that there is no other instance."""
    published = await stage.published(InstanceLaunched)
    assert sorted(each.job_id for each in published) == list(range(1, jobs + 1))
    ids = [each.instance_id for each in published]
    assert sorted(ids) == sorted(each["id"] for each in world.cloud.control.instances())
    assert len(set(ids)) == jobs


def jobs(count: int, **wants: Any) -> list[InstanceRequested]:
    return [requested(job_id, **wants) for job_id in range(1, count + 1)]


async def test_a_batch_is_one_call_and_each_instance_is_published_in_full(
    staging: Staging, world: Ec2World, clock: VirtualClock
) -> None:
    stage = staging()
    await stage.deliver(*jobs(5))
    await until_settled(stage, clock)
    assert len(world.cloud.control.calls("CreateFleet")) == 1
    await assert_each_has_one(stage, world, 5)
    published = (await stage.published(InstanceLaunched))[0]
    assert published.instance_type in SETTINGS.instance_types
    assert published.zone.startswith("us-east-1")
    assert published.market == "spot"
    kind = instance_type(published.instance_type)
    assert published.on_demand_hourly_price_usd == world.cloud.cloud.prices.on_demand(kind)
    assert published.hourly_price_usd is not None
    assert 0 < published.hourly_price_usd < 0.096
    assert published.other_prices is not None
    assert published.other_prices.public_ipv4_hourly_usd == PUBLIC_IPV4_USD
    gib_hour = (published.other_prices.volume_hourly_usd or 0) / SETTINGS.disk_gib
    assert gib_hour == pytest.approx(GP3_GIB_MONTH_USD / 730, rel=0.09)
    assert (published.spot_instance_request_id or "").startswith("sir-")
    (first, *_) = world.cloud.control.instances()
    ours = {key: value for key, value in first["tags"].items() if not key.startswith("aws:")}
    assert ours == {"docker-job:deployment": "test", "docker-job:launch": published.launch_token}


HARD_LABELS = (
    {f"key-{each}": "value" for each in range(50)},
    {"k" * 200: "v" * 256},
    {"aws:cloudformation:stack-name": "mine"},
    {"docker-job:deployment": "another", "docker-job:launch": "another"},
)


async def test_400_jobs_each_with_other_labels_some_of_which_no_tag_may_be_are_launched_together(
    staging: Staging, world: Ec2World, clock: VirtualClock
) -> None:
    stage = staging()
    for job_id in range(1, 401):
        labels = {"run": str(job_id)} | HARD_LABELS[job_id % 4]
        if len(labels) > 50:
            del labels["run"]
        await stage.deliver(requested(job_id, labels=labels))
    await until_settled(stage, clock)
    assert len(world.cloud.control.calls("CreateFleet")) <= 10
    await assert_each_has_one(stage, world, 400)
    keys = {key for each in world.cloud.control.instances() for key in each["tags"]}
    assert {key for key in keys if not key.startswith("aws:")} == {
        "docker-job:deployment",
        "docker-job:launch",
    }


async def test_cost_tags_are_on_instance_and_volume_and_equal_ones_are_launched_together(
    staging: Staging, world: Ec2World, clock: VirtualClock
) -> None:
    stage = staging()
    for job_id in range(1, 401):
        await stage.deliver(requested(job_id, tags={"team": f"t{job_id % 5}"}))
    await until_settled(stage, clock)
    calls = world.cloud.control.calls("CreateFleet")
    assert len(calls) <= 5 * 10
    await assert_each_has_one(stage, world, 400)
    shown = {each["id"]: each["tags"]["team"] for each in world.cloud.control.instances()}
    for each in await stage.published(InstanceLaunched):
        assert shown[each.instance_id] == f"t{each.job_id % 5}"
    for call in calls:
        (ours,) = {
            tag["Value"]
            for kind in call.params["TagSpecifications"]
            for tag in kind["Tags"]
            if tag["Key"] == "team"
        }
        kinds = {each["ResourceType"] for each in call.params["TagSpecifications"]}
        assert kinds == {"instance", "volume", "fleet"}
        assert ours in set(shown.values())
    templates = world.cloud.control.calls("CreateLaunchTemplate")
    assert "team" not in repr([each.params for each in templates])


async def test_labels_that_can_be_no_tags_are_left_off_and_stop_no_launch(
    staging: Staging, world: Ec2World, clock: VirtualClock
) -> None:
    """Of jobs from before the setting named them."""
    stage = staging()
    for job_id, hard in enumerate(HARD_LABELS, start=1):
        await stage.deliver(requested(job_id, tags={"team": "a\n", "project": "x"} | hard))
    await until_settled(stage, clock)
    await assert_each_has_one(stage, world, len(HARD_LABELS))
    for each in world.cloud.control.instances():
        assert "team" not in each["tags"]
        assert each["tags"]["docker-job:deployment"] == "test"


@pytest.mark.parametrize("step", STEPS)
async def test_killed_at_any_step_with_cost_tags_the_repeated_call_is_the_same(
    staging: Staging, world: Ec2World, clock: VirtualClock, step: str
) -> None:
    world.cloud.control.fail("CreateFleet", "lost_after")
    doomed, stage = staging(at=step), staging()
    await stage.deliver(*jobs(3, tags={"team": "a"}))
    with pytest.raises(Crash):
        await doomed.sweep(LAUNCH)
    clock.advance(CONFIG.lease_seconds)
    await until_settled(stage, clock)
    await assert_each_has_one(stage, world, 3)
    assert {each["tags"]["team"] for each in world.cloud.control.instances()} == {"a"}


@pytest.mark.parametrize("step", STEPS)
async def test_killed_at_any_step_with_answers_lost_and_calls_throttled_each_has_one_instance(
    staging: Staging, world: Ec2World, clock: VirtualClock, step: str
) -> None:
    control = world.cloud.control
    control.fail("CreateFleet", times=1, **THROTTLED)
    control.fail("CreateFleet", "lost_after", times=2)
    control.fail("DescribeInstances", times=3, **THROTTLED)
    doomed = staging(at=step)
    await doomed.deliver(*jobs(5))
    crashes = 0
    for _ in range(3):  # and the next process dies at the same step, a lease later
        try:
            await staging(at=step).sweep(LAUNCH)
        except Crash:
            crashes += 1
        clock.advance(CONFIG.lease_seconds)
    assert crashes > 0
    stage = staging()
    await until_settled(stage, clock)
    await assert_each_has_one(stage, world, 5)
    calls = [each.outcome for each in control.calls("CreateFleet")]
    print(f"killed {crashes} times at {step}: CreateFleet answered {calls}")


async def test_fewer_instances_than_asked_are_used_and_the_rest_is_tried_elsewhere(
    staging: Staging, world: Ec2World, clock: VirtualClock
) -> None:
    control = world.cloud.control
    control.set_capacity(0)
    control.set_capacity(3, market="spot", instance_type="m5.large", zone="us-east-1a")
    stage = staging()
    await stage.deliver(*jobs(5))
    await stage.sweep(LAUNCH)
    assert len(await stage.published(InstanceLaunched)) == 3
    delays = await stage.published(LaunchDelayed)
    assert [each.reason for each in delays] == ["no_capacity"] * 2
    assert "c5.large in us-east-1a" in delays[0].message
    clock.advance(10)
    await stage.sweep(LAUNCH)  # every pool rests: EC2 is not asked
    assert len(control.calls("CreateFleet")) == 1
    control.set_capacity(None)
    stage = staging(replace(SETTINGS, pool_rest_seconds=0.0))
    clock.advance(600)
    await until_settled(stage, clock)
    await assert_each_has_one(stage, world, 5)


async def test_a_quota_is_named_and_on_demand_comes_after_the_wait_for_spot(
    staging: Staging, world: Ec2World, clock: VirtualClock
) -> None:
    world.cloud.control.set_quota(2)
    stage = staging()
    await stage.deliver(*jobs(2, capacity="spot_then_on_demand", spot_wait_seconds=60))
    await stage.sweep(LAUNCH)
    (delay,) = await stage.published(LaunchDelayed)
    assert delay.reason == "quota_reached"
    assert "MaxSpotInstanceCountExceeded" in delay.message
    clock.advance(60)
    await until_settled(stage, clock)
    assert [each.market for each in await stage.published(InstanceLaunched)] == [
        "spot",
        "on-demand",
    ]


@pytest.mark.parametrize("code", ["PendingVerification", "OptInRequired", "SomethingNew"])
async def test_a_refusal_that_is_not_known_to_be_final_is_waited_for_longer_each_time(
    staging: Staging, world: Ec2World, clock: VirtualClock, code: str
) -> None:
    message = "Your account is currently being verified."
    world.cloud.control.fail("CreateFleet", code=code, status=400, message=message, times=3)
    stage = staging()
    await stage.deliver(*jobs(1))
    waits = []
    for _ in range(3):
        due_at = await stage.sweep(LAUNCH)
        assert due_at is not None
        waits.append((due_at - clock.now()).total_seconds())
        clock.advance(waits[-1])
    assert waits[0] < waits[1] < waits[2]
    (delay, *_) = await stage.published(LaunchDelayed)
    assert delay.message.startswith(f"{code}: {message}")
    assert await stage.published(LaunchRefused) == []
    await until_settled(stage, clock)
    await assert_each_has_one(stage, world, 1)


async def test_an_instance_profile_that_ec2_does_not_know_yet_is_waited_for(
    staging: Staging, world: Ec2World, clock: VirtualClock
) -> None:
    stage = staging(replace(SETTINGS, instance_profile="new"))
    await stage.deliver(*jobs(1))
    assert await stage.sweep(LAUNCH) is not None
    (delay,) = await stage.published(LaunchDelayed)
    assert "Invalid IAM Instance Profile" in delay.message
    make_profile(world.cloud, "new")
    clock.advance(CONFIG.lease_seconds)
    await until_settled(stage, clock)
    await assert_each_has_one(stage, world, 1)


async def test_the_error_of_a_refused_look_is_not_taken_for_that_of_the_launch_before_it(
    staging: Staging, world: Ec2World, clock: VirtualClock
) -> None:
    stage = staging()
    world.cloud.control.fail("CreateFleet", "lost_after")
    await stage.deliver(*jobs(2))
    await stage.sweep(LAUNCH)
    world.cloud.control.fail("CreateFleet", code="SomethingNew", status=400)
    world.cloud.control.fail("DescribeInstances", code="UnauthorizedOperation", status=403)
    clock.advance(CONFIG.lease_seconds)
    await until_settled(stage, clock)
    await assert_each_has_one(stage, world, 2)


async def test_an_offer_whose_token_is_spent_is_followed_by_another_and_never_loops(
    staging: Staging, world: Ec2World, clock: VirtualClock
) -> None:
    stage = staging()
    for code in ("IdempotentInstanceTerminated", "IdempotentParameterMismatch"):
        world.cloud.control.fail("CreateFleet", code=code, status=400)
    await stage.deliver(*jobs(1))
    await until_settled(stage, clock)
    await assert_each_has_one(stage, world, 1)
    outcomes = [each.outcome for each in world.cloud.control.calls("CreateFleet")]
    assert outcomes == ["IdempotentInstanceTerminated", "IdempotentParameterMismatch", "ok"]
    (row,) = await stage.rows("SELECT offer FROM launches")
    assert row["offer"] == 3


async def test_a_template_whose_version_was_removed_is_recreated(
    staging: Staging, world: Ec2World, clock: VirtualClock
) -> None:
    compute: Ec2Compute = world.adapter()
    stage = staging(compute=compute)
    await stage.deliver(*jobs(1))
    await until_settled(stage, clock)
    world.cloud.call(lambda cloud: cloud.templates.by_id.clear())
    await stage.deliver(requested(2))
    await until_settled(stage, clock)
    await assert_each_has_one(stage, world, 2)


async def test_instances_whose_launch_is_refused_afterwards_are_adopted_by_their_tag(
    staging: Staging, world: Ec2World, clock: VirtualClock
) -> None:
    stage = staging()
    world.cloud.control.fail("CreateFleet", "lost_after")
    await stage.deliver(*jobs(3))
    await stage.sweep(LAUNCH)
    world.cloud.control.fail("CreateFleet", code="InvalidParameterValue", status=400)
    await eventually(lambda: visible(world, 3))
    clock.advance(CONFIG.lease_seconds)
    await until_settled(stage, clock)
    await assert_each_has_one(stage, world, 3)


async def visible(world: Ec2World, count: int) -> bool:
    """Return whether EC2 shows so many instances."""
    return len(await world.adapter().list_instances()) == count
