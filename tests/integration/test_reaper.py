"""The reaper on a real database: it ends due instances until confirmed terminated, no others."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from services.reaper import handlers
from services.reaper.config import ReaperConfig
from services.reaper.service import build
from shared.clock import VirtualClock
from shared.compute.port import Throttled, Unknown
from shared.crash_points import WatchedPoints
from shared.events import cloudevents
from shared.events.costs import CostLines
from shared.events.events import (
    AttemptEnded,
    InstanceLaunched,
    InstanceTerminated,
    LaunchesReported,
)
from shared.runtime.service import Ports
from tests.support.compute.scripted_compute import ScriptedCompute
from tests.support.compute.stage import Crash, Stage, crashing

START = datetime(2026, 1, 1, tzinfo=UTC)
CONFIG = ReaperConfig(batch=10, prune_batch=10)
TERMINATE = "terminate_ending"
WATCH = "watch_instances"
CONFIRM = "confirm_missing"


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def launched(number: int = 1, *, sequence: int | None = None) -> InstanceLaunched:
    """Build instance i-*number* of attempt 1 of job *number*."""
    return InstanceLaunched(
        job_id=number,
        attempt=1,
        launch_token="t",
        instance_id=f"i-{number}",
        instance_type="m7g.large",
        zone="zone-a",
        market="spot",
        hourly_price_usd=0.036,
        launched_at=START,
        dies_by=after(3600),
        launch_sequence=sequence or number,
    )


def ended(number: int = 1, *, tidies: float = 0) -> AttemptEnded:
    return AttemptEnded(
        job_id=number, attempt=1, cause="done", ended_at=START, terminate_after=after(tidies)
    )


def interrupted_free(notice: float) -> AttemptEnded:
    """Return the end of an attempt under notice: the API leaves the instance to EC2 for 150 s."""
    return replace(ended(tidies=notice + 150), cause="interrupted")


def reported(before: float, sequence: int) -> LaunchesReported:
    return LaunchesReported(before=after(before), launch_sequence=sequence)


@pytest.fixture
async def ports(ports_of: Callable[[str], Awaitable[Ports]]) -> Ports:
    return await ports_of("reaper")


@pytest.fixture
def cloud(clock: VirtualClock) -> ScriptedCompute:
    return ScriptedCompute(clock)


@pytest.fixture
def stage(ports: Ports, cloud: ScriptedCompute) -> Stage:
    return Stage(build(CONFIG, ports, cloud))


async def states(stage: Stage) -> dict[str, str]:
    rows = await stage.rows("SELECT instance_id, state FROM instances ORDER BY 1")
    return {row["instance_id"]: row["state"] for row in rows}


async def watch_for(stage: Stage, clock: VirtualClock, seconds: float) -> None:
    """Watch every five seconds, ending due instances, for *seconds*."""
    for _ in range(int(seconds / 5)):
        clock.advance(5)
        await stage.sweep(WATCH)
        await stage.sweep(CONFIRM)
        await stage.sweep(TERMINATE)


async def test_an_ended_attempts_instance_is_ended_and_published_once(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.show("i-1")
    await stage.deliver(launched(), trace="ab" * 16)
    clock.advance(90)
    await stage.deliver(ended())
    assert await stage.sweep(TERMINATE) is None
    await watch_for(stage, clock, 10)
    (envelope,) = await stage.outbox()
    assert envelope.trace == "ab" * 16
    assert envelope.body == InstanceTerminated(
        instance_id="i-1",
        terminated_at=after(90),
        cause="done",
        spot_interrupted=False,
        billed_seconds=90,
        cost_usd=0.0009,
        job_id=1,
        attempt=1,
        cost_lines=CostLines(instance_usd=0.0009, public_ipv4_usd=0.0, volume_usd=0.0),
    )


async def test_a_current_attempts_instance_is_left_alone(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.show("i-1")
    await stage.deliver(launched(), reported(3000, 1))
    await watch_for(stage, clock, 600)
    assert cloud.terminated == []
    assert await states(stage) == {"i-1": "running"}


async def test_events_in_every_order_leave_the_same_rows(
    stage: Stage, cloud: ScriptedCompute
) -> None:
    orders = list(itertools.permutations(range(4)))
    for number, order in enumerate(orders, start=1):
        cloud.ends_at_once = False
        cloud.show(f"i-{number}", number)
        story = (
            launched(number),
            ended(number, tidies=20),
            reported(number, number),
            reported(number - 0.5, number - 1),
        )
        await stage.deliver(*(story[index] for index in order))
        await stage.sweep(TERMINATE)
    await stage.sweep(WATCH)
    rows = await stage.rows("SELECT state, end_cause, due_at FROM instances")
    assert rows == [{"state": "ending", "end_cause": "done", "due_at": after(20)}] * len(orders)
    (watermark,) = await stage.rows("SELECT before, told, heard_through FROM watermark")
    assert watermark == {"before": after(24), "told": 24, "heard_through": 24}


async def test_the_agent_has_its_time_to_tidy_up(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.show("i-1")
    await stage.deliver(launched(), ended(tidies=30))
    assert await stage.sweep(TERMINATE) == after(30)
    await watch_for(stage, clock, 25)
    assert cloud.terminated == []
    await watch_for(stage, clock, 5)
    assert cloud.terminated == [["i-1"]]


async def test_an_instance_that_ec2_takes_in_its_first_hour_is_left_to_it_and_is_no_leak(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.show("i-1")
    await stage.deliver(launched(), interrupted_free(notice=0))
    await watch_for(stage, clock, 120)
    assert cloud.terminated == []
    cloud.end("i-1", reason="Server.SpotInstanceTermination", interrupted=True)
    await watch_for(stage, clock, 60)
    assert cloud.terminated == []
    [published] = await stage.published(InstanceTerminated)
    assert (published.billed_seconds, published.cost_usd) == (0, 0.0)
    assert await stage.rows("SELECT leaked_seconds FROM instances") == [{"leaked_seconds": 0.0}]


async def test_one_that_ec2_does_not_take_is_ended_after_all(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.show("i-1")
    await stage.deliver(launched(), interrupted_free(notice=0))
    await watch_for(stage, clock, 160)
    assert cloud.terminated == [["i-1"]]


async def test_an_end_that_comes_by_itself_is_seen_and_published(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.show("i-1")
    cloud.show("i-2", 2)
    await stage.deliver(launched(1), ended(1, tidies=30), launched(2))
    cloud.end("i-1", reason="Client.InstanceInitiatedShutdown")
    cloud.end("i-2", reason="Server.SpotInstanceTermination", interrupted=True)
    await watch_for(stage, clock, 60)
    published = {each.instance_id: each for each in await stage.published(InstanceTerminated)}
    assert published["i-1"].cause == "done"
    assert (published["i-2"].cause, published["i-2"].spot_interrupted) == ("interrupted", True)
    assert cloud.terminated == []


async def test_an_end_without_effect_is_requested_until_the_cloud_reports_terminated(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.show("i-1")
    cloud.ends_at_once = False
    await stage.deliver(launched(), ended())
    waits = []
    for _ in range(9):
        next_at = await stage.sweep(TERMINATE)
        assert next_at is not None
        waits.append((next_at - clock.now()).total_seconds())
        clock.advance(15)
    assert waits[0] <= 0.25
    assert 11 <= waits[-1] <= 15
    assert await stage.published(InstanceTerminated) == []
    cloud.ends_at_once = True
    await stage.sweep(TERMINATE)
    assert len(await stage.published(InstanceTerminated)) == 1


async def test_an_instance_that_is_not_visible_is_neither_alive_nor_terminated(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.show("i-1")
    cloud.invisible.add("i-1")
    await stage.deliver(launched(), ended())
    await watch_for(stage, clock, 60)
    assert await stage.published(InstanceTerminated) == []
    await watch_for(stage, clock, 5)
    (termination,) = await stage.published(InstanceTerminated)
    assert termination.terminated_at == after(5)


async def test_an_incomplete_list_lets_nothing_vanish(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    await stage.deliver(launched())
    cloud.list_error = Unknown("page 2 did not come")
    await watch_for(stage, clock, 300)
    assert await states(stage) == {"i-1": "running"}


async def test_the_time_without_a_list_makes_nothing_vanish(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    await stage.deliver(launched())
    await watch_for(stage, clock, 5)
    clock.advance(3600)  # the reaper, the cloud or the database was down
    await stage.sweep(WATCH)
    assert await states(stage) == {"i-1": "running"}
    cloud.show("i-1")  # and its list was not complete for the first time
    await watch_for(stage, clock, 5)
    cloud.instances.clear()
    await watch_for(stage, clock, 60)
    assert await states(stage) == {"i-1": "running"}
    await watch_for(stage, clock, 5)
    assert await states(stage) == {"i-1": "terminated"}


async def test_a_reaper_that_restarts_every_minute_still_finds_what_vanished_and_orphans(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.show("i-9", 9)
    await stage.deliver(launched(), ended(9))
    for _ in range(7):
        clock.advance(60)
        await stage.sweep(WATCH)
        await stage.sweep(CONFIRM)
        await stage.sweep(TERMINATE)
    assert await states(stage) == {"i-1": "terminated", "i-9": "terminated"}


async def test_an_orphan_is_not_ended_on_the_first_list_after_an_outage_of_the_reaper(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.show("i-9", 9)
    await stage.deliver(reported(30, 0))
    await watch_for(stage, clock, 5)
    clock.advance(3600)
    await watch_for(stage, clock, 40)
    assert cloud.terminated == []
    await watch_for(stage, clock, 10)
    assert cloud.terminated == [["i-9"]]


async def test_one_bad_id_in_a_batch_holds_up_none_of_the_others(
    stage: Stage, cloud: ScriptedCompute
) -> None:
    for number in (1, 2, 3):
        cloud.show(f"i-{number}", number)
        await stage.deliver(launched(number), ended(number))
    cloud.refuses_to_end.add("i-2")
    await stage.sweep(TERMINATE)
    assert await states(stage) == {"i-1": "terminated", "i-2": "ending", "i-3": "terminated"}


@pytest.mark.parametrize("error", [Throttled("slow down"), Unknown("timeout")])
async def test_a_failed_terminate_call_is_made_again(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock, error: Exception
) -> None:
    cloud.show("i-1")
    cloud.terminate_error = error
    await stage.deliver(launched(), ended())
    await stage.sweep(TERMINATE)
    assert len(cloud.terminated) == 1
    cloud.terminate_error = None
    clock.advance(1)
    await stage.sweep(TERMINATE)
    assert await states(stage) == {"i-1": "terminated"}


@pytest.mark.parametrize("point", ["reaper.claimed", "reaper.called", "reaper.described"])
async def test_a_crash_before_the_record_is_made_good_after_the_lease(
    ports: Ports, cloud: ScriptedCompute, stage: Stage, clock: VirtualClock, point: str
) -> None:
    cloud.show("i-1")
    await stage.deliver(launched(), ended())
    doomed = Stage(build(CONFIG, crashing(ports, point), cloud))
    with pytest.raises(Crash):
        await doomed.sweep(TERMINATE)
    assert await stage.sweep(TERMINATE) == after(CONFIG.lease_seconds)
    assert await stage.published(InstanceTerminated) == []
    clock.advance(CONFIG.lease_seconds)
    await stage.sweep(TERMINATE)
    assert len(await stage.published(InstanceTerminated)) == 1


async def test_a_crash_after_the_record_has_published_for_good(
    ports: Ports, cloud: ScriptedCompute, stage: Stage, clock: VirtualClock
) -> None:
    cloud.show("i-1")
    await stage.deliver(launched(), ended())
    doomed = Stage(build(CONFIG, crashing(ports, "reaper.recorded"), cloud))
    with pytest.raises(Crash):
        await doomed.sweep(TERMINATE)
    await watch_for(stage, clock, 120)
    assert len(await stage.published(InstanceTerminated)) == 1


async def test_replicas_and_both_sweeps_at_once_publish_each_end_once(
    ports: Ports, cloud: ScriptedCompute
) -> None:
    one, two = (Stage(build(CONFIG, ports, cloud)) for _ in range(2))
    for number in range(1, 26):
        cloud.show(f"i-{number}", number)
        await one.deliver(launched(number), ended(number))
    for _ in range(3):
        await asyncio.gather(
            *(stage.sweep(name) for stage in (one, two) for name in (TERMINATE, WATCH))
        )
    published = [each.instance_id for each in await one.published(InstanceTerminated)]
    assert sorted(published) == sorted(f"i-{number}" for number in range(1, 26))


async def test_a_launch_and_an_end_received_at_once_by_two_replicas_are_joined_by_the_next_watch(
    ports: Ports, cloud: ScriptedCompute, stage: Stage, clock: VirtualClock
) -> None:
    cloud.show("i-1")
    launch = cloudevents.wrap(launched(), source=ports.db.source, at=clock.now(), trace="ab" * 16)
    end = cloudevents.wrap(ended(), source=ports.db.source, at=clock.now(), trace="ab" * 16)
    async with ports.db.transaction() as one, ports.db.transaction() as other:
        await handlers.on_instance_launched([launch], one)
        await handlers.on_attempt_ended([end], other)
    assert await states(stage) == {"i-1": "running"}
    ports.wakeups.event(TERMINATE).clear()
    await stage.sweep(WATCH)
    assert await states(stage) == {"i-1": "ending"}
    assert ports.wakeups.event(TERMINATE).is_set()


async def test_an_end_that_both_sweeps_see_is_published_by_the_first_alone(
    stage: Stage, cloud: ScriptedCompute, points: WatchedPoints
) -> None:
    cloud.show("i-1")
    await stage.deliver(launched(), ended())
    cloud.answering.clear()
    terminating = asyncio.create_task(stage.sweep(TERMINATE))
    await points.wait_for("reaper.called")
    await stage.sweep(WATCH)
    assert await states(stage) == {"i-1": "terminated"}
    cloud.answering.set()
    await terminating
    assert len(await stage.published(InstanceTerminated)) == 1


async def test_what_outlives_its_time_is_ended(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.show("i-1")
    await stage.deliver(launched())
    clock.advance(3600 + CONFIG.lifetime_margin_seconds)
    await stage.sweep(WATCH)
    await stage.sweep(TERMINATE)
    assert [each.cause for each in await stage.published(InstanceTerminated)] == ["lifetime"]


async def test_an_orphan_is_ended_on_a_later_sighting_once_the_watermark_has_passed_it(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.show("i-9", 9)
    await stage.deliver(reported(30, 0))
    await watch_for(stage, clock, 60)
    assert cloud.terminated == []
    await watch_for(stage, clock, 5)
    (termination,) = await stage.published(InstanceTerminated)
    assert (termination.instance_id, termination.job_id, termination.cause) == ("i-9", 9, "orphan")


async def test_a_launch_that_is_not_recorded_yet_is_never_taken_for_an_orphan(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.show("i-2", 2)
    cloud.show("i-3", 3)
    # Three launches in all; the second is late, and a count of those received would not miss it.
    await stage.deliver(launched(1), launched(3), launched(4), reported(3000, 3))
    await watch_for(stage, clock, 900)
    assert cloud.terminated == []
    await stage.deliver(launched(2))
    await watch_for(stage, clock, 900)
    assert cloud.terminated == []


async def test_without_any_watermark_an_unknown_instance_lives_up_to_the_maximum_lifetime(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.show("i-9", 9, age=CONFIG.max_lifetime_seconds - 60)
    await watch_for(stage, clock, 115)
    assert cloud.terminated == []
    await watch_for(stage, clock, 5)
    assert cloud.terminated == [["i-9"]]


async def test_an_unknown_instance_whose_attempt_has_ended_needs_no_watermark(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.show("i-9", 9)
    await stage.deliver(ended(9))
    await watch_for(stage, clock, 65)
    assert [each.instance_id for each in await stage.published(InstanceTerminated)] == ["i-9"]


async def test_what_was_taken_for_terminated_and_shows_up_again_is_ended_and_not_published_twice(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.show("i-1")
    cloud.invisible.add("i-1")
    await stage.deliver(launched())
    await watch_for(stage, clock, 70)
    cloud.invisible.clear()
    await watch_for(stage, clock, 10)
    assert cloud.terminated == [["i-1"]]
    assert len(await stage.published(InstanceTerminated)) == 1


async def test_what_ended_is_forgotten_after_a_week_and_what_lives_never(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.show("i-1")
    cloud.show("i-2", 2)
    cloud.ends_at_once = False
    cloud.end("i-2")
    await stage.deliver(launched(1), ended(1), launched(2), ended(2))
    await stage.sweep(TERMINATE)
    clock.advance(7 * 86_400 + 1)
    await stage.sweep("prune_instances")
    assert await states(stage) == {"i-1": "ending"}
    assert await stage.rows("SELECT job_id FROM ended_attempts") == [{"job_id": 1}]


async def test_an_instance_of_unknown_price_is_ended_and_its_cost_is_published_as_unknown(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.show("i-1")
    cloud.instances["i-1"] = replace(cloud.instances["i-1"], hourly_price_usd=None)
    await stage.deliver(replace(launched(), hourly_price_usd=None))
    clock.advance(90)
    await stage.deliver(ended())
    await stage.sweep(TERMINATE)
    (termination,) = await stage.published(InstanceTerminated)
    assert (termination.billed_seconds, termination.cost_usd) == (90, None)
    (row,) = await stage.rows("SELECT state, hourly_price_usd, cost_usd FROM instances")
    assert row == {"state": "terminated", "hourly_price_usd": None, "cost_usd": None}


async def test_an_orphan_of_unknown_price_is_adopted(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.show("i-1", age=CONFIG.max_lifetime_seconds + 60)
    cloud.instances["i-1"] = replace(cloud.instances["i-1"], hourly_price_usd=None)
    await watch_for(stage, clock, 120)
    (termination,) = await stage.published(InstanceTerminated)
    assert (termination.cause, termination.cost_usd) == ("orphan", None)
