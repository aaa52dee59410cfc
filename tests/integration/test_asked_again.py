"""An event that comes again under another id asks again: scheduler and launcher repeat theirs."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.launcher import NAME
from services.launcher import service as launcher
from services.launcher.config import LauncherConfig
from services.scheduler import service as scheduler
from services.scheduler.config import SchedulerConfig
from shared.clock import VirtualClock
from shared.compute.port import QuotaReached, Rejected
from shared.events.events import (
    InstanceLaunched,
    InstanceRequested,
    JobCancelled,
    JobScheduled,
    LaunchDelayed,
    LaunchesMissed,
    LaunchRefused,
)
from shared.events.requirements import Requirements
from shared.runtime.service import Ports
from tests.support.compute.scripted_compute import ScriptedCompute
from tests.support.compute.stage import Stage
from tests.support.rows.messages import TRACE, as_message, wrapped
from tests.support.rows.old_schema import old_schema

START = datetime(2026, 1, 1, tzinfo=UTC)
NEEDS = Requirements(max_lifetime_seconds=3600)
LAUNCH = "launch_due_1"


def scheduled(job_id: int = 1, attempt: int = 1) -> JobScheduled:
    return JobScheduled(job_id=job_id, attempt=attempt, due_at=START, requirements=NEEDS)


def requested(job_id: int = 1, attempt: int = 1) -> InstanceRequested:
    return InstanceRequested(job_id=job_id, attempt=attempt, due_at=START, requirements=NEEDS)


# -- the scheduler


@pytest.fixture
async def timers(ports_of: Callable[[str], Awaitable[Ports]]) -> Stage:
    return Stage(scheduler.build(SchedulerConfig(), await ports_of("scheduler")))


async def test_a_timer_that_has_fired_requests_its_instance_again(
    timers: Stage, clock: VirtualClock
) -> None:
    await timers.deliver(scheduled(), scheduled(2))
    await timers.sweep("fire_due")
    clock.advance(600)
    await timers.deliver(scheduled(), trace="ab" * 16)
    again = (await timers.outbox())[-1]
    assert again.body == requested()
    assert again.trace == "ab" * 16
    assert again.cause is not None
    assert len(await timers.published(InstanceRequested)) == 3
    assert await timers.sweep("fire_due") is None
    assert len({each.id for each in await timers.outbox()}) == 3


async def test_a_timer_that_waits_or_is_cancelled_requests_nothing_again(timers: Stage) -> None:
    await timers.deliver(scheduled(), JobCancelled(job_id=2, attempt=1))
    await timers.deliver(scheduled(), scheduled(2))
    assert await timers.published(InstanceRequested) == []
    await timers.sweep("fire_due")
    assert await timers.published(InstanceRequested) == [requested()]


async def test_an_event_and_its_repeat_in_one_batch_are_one_timer(timers: Stage) -> None:
    await timers.service.inbox.apply([wrapped(scheduled(), at=START) for _ in range(3)])
    await timers.sweep("fire_due")
    assert await timers.published(InstanceRequested) == [requested()]


async def test_a_timer_that_is_pruned_fires_again(timers: Stage, clock: VirtualClock) -> None:
    await timers.deliver(scheduled())
    await timers.sweep("fire_due")
    clock.advance(8 * 86_400)
    await timers.sweep("prune_timers")
    await timers.deliver(scheduled())
    await timers.sweep("fire_due")
    assert len(await timers.published(InstanceRequested)) == 2


# -- the launcher


@pytest.fixture
def cloud(clock: VirtualClock) -> ScriptedCompute:
    return ScriptedCompute(clock)


@pytest.fixture
async def launches(ports_of: Callable[[str], Awaitable[Ports]], cloud: ScriptedCompute) -> Stage:
    config = LauncherConfig(deployment="home", api_url="http://api", token_key="key")
    return Stage(launcher.build(config, await ports_of("launcher"), cloud))


async def test_a_launched_instance_is_published_again_with_the_same_content(
    launches: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    await launches.deliver(requested())
    await launches.sweep(LAUNCH)
    clock.advance(600)
    cloud.instances.clear()
    await launches.deliver(requested())
    await launches.sweep(LAUNCH)
    first, again = await launches.outbox()
    assert again.body == first.body
    assert isinstance(again.body, InstanceLaunched)
    assert again.id != first.id
    assert len(cloud.questions) == 1


async def test_a_refusal_is_published_again(launches: Stage, cloud: ScriptedCompute) -> None:
    cloud.refusals.append(Rejected("bad image id"))
    await launches.deliver(requested())
    await launches.sweep(LAUNCH)
    await launches.deliver(requested())
    await launches.sweep(LAUNCH)
    first, again = await launches.published(LaunchRefused)
    assert first == again
    assert len(cloud.asked) == 1


async def test_a_launch_that_waits_publishes_why_and_is_asked_for_no_sooner(
    launches: Stage, cloud: ScriptedCompute
) -> None:
    cloud.refusals.append(QuotaReached("32 vCPUs"))
    await launches.deliver(requested(), requested())
    assert await launches.published(LaunchDelayed) == []
    await launches.sweep(LAUNCH)
    await launches.deliver(requested())
    first, again = await launches.published(LaunchDelayed)
    assert first == again
    await launches.sweep(LAUNCH)
    assert len(cloud.asked) == 1


async def test_a_cancelled_launch_stays_cancelled_and_publishes_nothing(
    launches: Stage, cloud: ScriptedCompute
) -> None:
    await launches.deliver(JobCancelled(job_id=1, attempt=1))
    await launches.deliver(requested(), requested())
    await launches.sweep(LAUNCH)
    assert (await launches.outbox(), cloud.asked) == ([], [])


async def test_missed_launches_are_published_again_under_their_own_traces(
    launches: Stage, cloud: ScriptedCompute
) -> None:
    for job_id in range(1, 6):
        await launches.deliver(requested(job_id), trace=f"{job_id:032x}")
    await launches.sweep(LAUNCH)
    missed = LaunchesMissed(first_launch_sequence=2, last_launch_sequence=4)
    await launches.deliver(missed)
    again = (await launches.outbox())[5:]
    assert [each.body.launch_sequence for each in again] == [2, 3, 4]
    bodies = {each.trace: each.body for each in (await launches.outbox())[:5]}
    assert all(bodies[each.trace] == each.body for each in again)
    assert len(cloud.questions) == 5


async def test_of_launches_that_are_not_known_nothing_is_published(launches: Stage) -> None:
    await launches.deliver(LaunchesMissed(first_launch_sequence=1, last_launch_sequence=10**9))
    assert await launches.outbox() == []


# -- the upgrade

SQL = Path(__file__).resolve().parents[2] / "services" / NAME / "sql"
OUTBOX = "CREATE TABLE outbox (name text, body bytea)"
LAUNCHED = """
INSERT INTO launches (job_id, attempt, state, requirements, trace, launch_token, params, asked_at,
    told, settled_at)
VALUES ($1, 1, 'launched', '{}', '', '', '{}', now(), $1, now())
"""
REFUSED = """
INSERT INTO launches (job_id, attempt, state, requirements, trace, settled_at)
VALUES (9, 1, 'refused', '{}', '', now())
"""


def body_of(event: Any) -> bytes:
    return as_message(wrapped(event, trace=TRACE)).body


async def test_reports_of_the_last_day_are_taken_from_the_outbox(
    database_url: str, tmp_path: Path, launches: Stage
) -> None:
    await launches.deliver(requested())
    await launches.sweep(LAUNCH)
    [launched] = await launches.published(InstanceLaunched)
    refused = LaunchRefused(job_id=9, attempt=1, message="bad image id")
    async with old_schema(database_url, tmp_path, SQL, "000[1-3]_*.sql") as old:
        await old.conn.execute(OUTBOX)
        for job_id in (1, 2):
            await old.conn.execute(LAUNCHED, job_id)
        await old.conn.execute(REFUSED)
        for event in (launched, refused):
            name = type(event).__name__
            await old.conn.execute("INSERT INTO outbox VALUES ($1, $2)", name, body_of(event))
        for name, body in (("InstanceLaunched", b'{"body": {}}'), ("LaunchesReported", b"")):
            await old.conn.execute("INSERT INTO outbox VALUES ($1, $2)", name, body)
        await old.migrate("0004_reports.sql")
        rows = await old.conn.fetch("SELECT job_id, report FROM launches ORDER BY job_id")
    reports = {row["job_id"]: row["report"] for row in rows}
    assert msgspec.json.decode(reports[1], type=InstanceLaunched) == launched
    assert msgspec.json.decode(reports[9], type=LaunchRefused) == refused
    assert reports[2] is None


async def test_a_launch_without_a_report_is_published_as_far_as_it_is_known(
    launches: Stage, clock: VirtualClock
) -> None:
    await launches.deliver(requested())
    await launches.sweep(LAUNCH)
    async with launches.ports.db.connection() as conn:
        await conn.execute("UPDATE launches SET report = NULL")
    await launches.deliver(LaunchesMissed(first_launch_sequence=1, last_launch_sequence=1))
    first, again = await launches.published(InstanceLaunched)
    assert (again.instance_id, again.launch_token) == (first.instance_id, first.launch_token)
    assert again.dies_by == first.dies_by == clock.now() + timedelta(hours=1)
    assert again.hourly_price_usd is None
