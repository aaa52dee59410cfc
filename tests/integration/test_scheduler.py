"""The scheduler on a real database: fires once, in any order, after any crash, by any replica."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from services.scheduler import store
from services.scheduler.config import SchedulerConfig
from services.scheduler.service import build
from shared.clock import VirtualClock
from shared.events.events import InstanceRequested, JobCancelled, JobScheduled
from shared.events.requirements import Requirements
from shared.runtime.service import Ports
from tests.support.compute.stage import Crash, Stage, crashing

START = datetime(2026, 1, 1, tzinfo=UTC)
NEEDS = Requirements(max_lifetime_seconds=3600, labels={"team": "a"})
CONFIG = SchedulerConfig(batch=10, prune_batch=10)


def scheduled(job_id: int = 1, attempt: int = 1, *, seconds: float = 0) -> JobScheduled:
    due_at = START + timedelta(seconds=seconds)
    return JobScheduled(job_id=job_id, attempt=attempt, due_at=due_at, requirements=NEEDS)


@pytest.fixture
async def ports(ports_of: Callable[[str], Awaitable[Ports]]) -> Ports:
    return await ports_of("scheduler")


@pytest.fixture
def stage(ports: Ports) -> Stage:
    return Stage(build(CONFIG, ports))


async def states(stage: Stage) -> list[tuple[int, int, str]]:
    rows = await stage.rows("SELECT job_id, attempt, state FROM timers ORDER BY 1, 2")
    return [(row["job_id"], row["attempt"], row["state"]) for row in rows]


async def test_a_timer_fires_when_its_time_comes_and_only_once(
    stage: Stage, clock: VirtualClock
) -> None:
    await stage.deliver(scheduled(seconds=30))
    assert await stage.sweep("fire_due") == START + timedelta(seconds=30)
    assert await stage.published(InstanceRequested) == []
    clock.advance(30)
    assert await stage.sweep("fire_due") is None
    await stage.sweep("fire_due")
    assert await stage.published(InstanceRequested) == [
        InstanceRequested(
            job_id=1, attempt=1, due_at=START + timedelta(seconds=30), requirements=NEEDS
        )
    ]


@pytest.mark.parametrize(("seconds", "woken"), [(-5, True), (0, True), (59, True), (3600, False)])
async def test_only_what_is_due_soon_wakes_the_sweep(
    stage: Stage, ports: Ports, seconds: float, *, woken: bool
) -> None:
    wake = ports.wakeups.event("fire_due")
    wake.clear()
    await stage.deliver(scheduled(seconds=seconds))
    assert wake.is_set() == woken
    assert await states(stage) == [(1, 1, "waiting")]
    # Later ones are found by the sweep's next pass, which comes after the interval at the latest.
    due_at = START + timedelta(seconds=seconds)
    assert seconds < 1 or await stage.sweep("fire_due") == due_at


WAITS_FOR_A_LOCK = "state = 'waiting' AND (SELECT pg_advisory_xact_lock(7)) IS NOT NULL"
WAITS = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)"


async def test_a_timer_that_changes_while_it_is_claimed_fires_in_the_next_pass(
    stage: Stage, ports: Ports, clock: VirtualClock
) -> None:
    await stage.deliver(scheduled())
    claims = store.FIRE_DUE.replace("state = 'waiting'", WAITS_FOR_A_LOCK)
    async with ports.db.connection() as other, ports.db.connection() as claimer:
        await other.execute("SELECT pg_advisory_lock(7)")
        claiming = asyncio.create_task(claimer.fetch(claims, clock.now(), 10))
        while not await other.fetchval(WAITS):
            pass
        await other.execute("UPDATE timers SET trace = trace")
        await other.execute("SELECT pg_advisory_unlock(7)")
        assert await claiming == []
    await stage.sweep("fire_due")
    assert len(await stage.published(InstanceRequested)) == 1


USERS = "ab" * 16


async def test_the_request_keeps_the_trace_that_began_with_the_job(stage: Stage) -> None:
    await stage.deliver(scheduled(), trace=USERS)
    await stage.sweep("fire_due")
    assert [each.trace for each in await stage.outbox()] == [USERS]


async def test_events_in_every_order_leave_the_same_timers(
    ports_of: Callable[[str], Awaitable[Ports]], stage: Stage
) -> None:
    for place, order in enumerate(itertools.permutations(range(4))):
        job_id = place + 1
        story = (
            scheduled(job_id, 1),
            JobCancelled(job_id=job_id, attempt=2),
            scheduled(job_id, 2),
            scheduled(job_id, 3),
        )
        await stage.deliver(*(story[index] for index in order))
    found = await states(stage)
    expected = [(1, "waiting"), (2, "cancelled"), (3, "waiting")]
    assert found == [
        (job_id, attempt, state) for job_id in range(1, 25) for attempt, state in expected
    ]


async def test_a_cancellation_that_comes_first_wins(stage: Stage) -> None:
    await stage.deliver(JobCancelled(job_id=1, attempt=1), scheduled())
    await stage.sweep("fire_due")
    assert await stage.published(InstanceRequested) == []


async def test_a_cancellation_after_the_firing_changes_nothing_here(stage: Stage) -> None:
    await stage.deliver(scheduled())
    await stage.sweep("fire_due")
    await stage.deliver(JobCancelled(job_id=1, attempt=1))
    assert await states(stage) == [(1, 1, "fired")]


async def test_a_crash_before_the_commit_fires_nothing_and_the_next_start_fires(
    ports: Ports, stage: Stage
) -> None:
    await stage.deliver(scheduled())
    doomed = Stage(build(CONFIG, crashing(ports, "scheduler.fired_before_commit")))
    with pytest.raises(Crash):
        await doomed.sweep("fire_due")
    assert await stage.published(InstanceRequested) == []
    await stage.sweep("fire_due")
    assert len(await stage.published(InstanceRequested)) == 1


async def test_a_crash_after_the_commit_has_fired_for_good(ports: Ports, stage: Stage) -> None:
    await stage.deliver(scheduled())
    doomed = Stage(build(CONFIG, crashing(ports, "scheduler.fired")))
    with pytest.raises(Crash):
        await doomed.sweep("fire_due")
    await stage.sweep("fire_due")
    assert len(await stage.published(InstanceRequested)) == 1


@pytest.mark.parametrize("jump", [3600, -3600])
async def test_a_clock_that_jumps_an_hour_fires_once(
    stage: Stage, clock: VirtualClock, jump: float
) -> None:
    await stage.deliver(scheduled(seconds=60))
    clock.advance(jump)
    await stage.sweep("fire_due")
    clock.advance(-jump)
    await stage.sweep("fire_due")
    clock.advance(3700)
    await stage.sweep("fire_due")
    assert len(await stage.published(InstanceRequested)) == 1


async def test_what_came_due_while_it_was_down_fires_late_and_once(
    stage: Stage, clock: VirtualClock
) -> None:
    await stage.deliver(scheduled(seconds=5))
    clock.advance(86_400)
    await stage.sweep("fire_due")
    await stage.sweep("fire_due")
    assert len(await stage.published(InstanceRequested)) == 1


async def test_replicas_share_the_work_and_fire_nothing_twice(
    ports: Ports, stage: Stage, clock: VirtualClock
) -> None:
    replica = Stage(build(CONFIG, ports))
    await stage.deliver(*(scheduled(job_id) for job_id in range(1, 36)))
    assert await stage.sweep("fire_due") == clock.now()  # full: more at once
    for _ in range(3):
        await asyncio.gather(stage.sweep("fire_due"), replica.sweep("fire_due"))
    published = await stage.published(InstanceRequested)
    assert sorted(each.job_id for each in published) == list(range(1, 36))


async def test_the_longest_due_fires_first(stage: Stage, clock: VirtualClock) -> None:
    await stage.deliver(scheduled(1, seconds=3), scheduled(2, seconds=1), scheduled(3, seconds=2))
    clock.advance(10)
    await stage.sweep("fire_due")
    assert [each.job_id for each in await stage.published(InstanceRequested)] == [2, 3, 1]


async def test_settled_timers_are_forgotten_after_a_week_and_waiting_ones_never(
    stage: Stage, clock: VirtualClock
) -> None:
    await stage.deliver(*(JobCancelled(job_id=job_id, attempt=1) for job_id in range(1, 16)))
    await stage.deliver(scheduled(99, seconds=30 * 86_400))
    clock.advance(7 * 86_400)
    assert await stage.sweep("prune_timers") is None
    assert len(await states(stage)) == 16
    clock.advance(1)
    assert await stage.sweep("prune_timers") == clock.now()
    assert await stage.sweep("prune_timers") is None
    assert await states(stage) == [(99, 1, "waiting")]
