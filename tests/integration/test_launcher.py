"""The launcher on a real database: one instance an attempt, whatever fails on the way."""

import asyncio
import itertools
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from services.launcher.config import LauncherConfig
from services.launcher.service import build
from services.launcher.store import launches as store
from shared.clock import VirtualClock
from shared.compute.port import NoCapacity, QuotaReached, Rejected, Throttled, Unknown
from shared.crash_points import WatchedPoints
from shared.events.events import (
    AttemptEnded,
    InstanceLaunched,
    InstanceRequested,
    JobCancelled,
    LaunchDelayed,
    LaunchesReported,
    LaunchRefused,
)
from shared.events.requirements import Requirements
from shared.runtime.service import Ports
from tests.support.compute.scripted_compute import ScriptedCompute
from tests.support.compute.stage import Crash, Stage, crashing

START = datetime(2026, 1, 1, tzinfo=UTC)
CONFIG = LauncherConfig(
    deployment="home",
    api_url="http://api",
    token_key="key",
    batch=10,
    gathered_batch=10,
    prune_batch=10,
)
LAUNCH = "launch_due_1"
CANCELLED = JobCancelled(job_id=1, attempt=1)
ENDED = AttemptEnded(job_id=1, attempt=1, cause="cancelled", ended_at=START, terminate_after=START)


def requested(job_id: int = 1, attempt: int = 1, **wants: object) -> InstanceRequested:
    return InstanceRequested(
        job_id=job_id,
        attempt=attempt,
        due_at=START,
        requirements=replace(Requirements(max_lifetime_seconds=3600), **wants),
    )


@pytest.fixture
async def ports(ports_of: Callable[[str], Awaitable[Ports]]) -> Ports:
    return await ports_of("launcher")


@pytest.fixture
def cloud(clock: VirtualClock) -> ScriptedCompute:
    return ScriptedCompute(clock)


@pytest.fixture
def stage(ports: Ports, cloud: ScriptedCompute) -> Stage:
    return Stage(build(CONFIG, ports, cloud))


async def states(stage: Stage) -> list[tuple[str, bool]]:
    rows = await stage.rows("SELECT state, unwanted FROM launches ORDER BY job_id, attempt")
    return [(row["state"], row["unwanted"]) for row in rows]


async def test_a_request_becomes_an_instance_and_is_published_once(
    stage: Stage, cloud: ScriptedCompute
) -> None:
    await stage.deliver(requested(), trace="ab" * 16)
    assert await stage.sweep(LAUNCH) is None
    await stage.sweep(LAUNCH)
    assert list(cloud.instances) == ["i-1"]
    (envelope,) = await stage.outbox()
    assert envelope.trace == "ab" * 16
    assert isinstance(envelope.body, InstanceLaunched)
    assert envelope.body.launch_sequence == 1
    assert envelope.body.dies_by == START + timedelta(seconds=3600)


async def test_events_in_every_order_end_cancelled(stage: Stage, cloud: ScriptedCompute) -> None:
    orders = list(itertools.permutations(range(3)))
    for job_id, order in enumerate(orders, start=1):
        ended = AttemptEnded(
            job_id=job_id, attempt=1, cause="cancelled", ended_at=START, terminate_after=START
        )
        story = (requested(job_id), JobCancelled(job_id=job_id, attempt=1), ended)
        await stage.deliver(*(story[index] for index in order))
    assert await states(stage) == [("cancelled", True)] * len(orders)
    await stage.sweep(LAUNCH)
    assert cloud.asked == []


async def test_an_end_leaves_the_next_attempt_alone(stage: Stage) -> None:
    await stage.deliver(ENDED, requested(attempt=2), requested(attempt=1))
    assert await states(stage) == [("cancelled", True), ("wanted", False)]


@pytest.mark.parametrize("point", ["launcher.claimed", "launcher.planned"])
async def test_a_crash_before_the_intent_is_committed_leads_to_another_plan(
    ports: Ports, cloud: ScriptedCompute, stage: Stage, clock: VirtualClock, point: str
) -> None:
    await stage.deliver(requested())
    doomed = Stage(build(CONFIG, crashing(ports, point), cloud))
    with pytest.raises(Crash):
        await doomed.sweep(LAUNCH)
    assert await states(stage) == [("wanted", False)]
    lease_ends = START + timedelta(seconds=CONFIG.plan_lease_seconds)
    assert await stage.sweep(LAUNCH) == lease_ends
    assert cloud.asked == []
    clock.advance(CONFIG.plan_lease_seconds)
    await stage.sweep(LAUNCH)
    assert len(await stage.published(InstanceLaunched)) == 1


@pytest.mark.parametrize("point", ["launcher.intent_committed", "launcher.called"])
async def test_a_crash_around_the_call_leads_to_the_identical_call_and_one_instance(
    ports: Ports, cloud: ScriptedCompute, stage: Stage, clock: VirtualClock, point: str
) -> None:
    await stage.deliver(requested())
    doomed = Stage(build(CONFIG, crashing(ports, point), cloud))
    with pytest.raises(Crash):
        await doomed.sweep(LAUNCH)
    assert await states(stage) == [("asked", False)]
    lease_ends = START + timedelta(seconds=CONFIG.lease_seconds)
    assert await stage.sweep(LAUNCH) == lease_ends
    assert len(await stage.published(InstanceLaunched)) == 0
    clock.advance(CONFIG.lease_seconds)
    await stage.sweep(LAUNCH)
    assert len(cloud.questions) == 1
    assert list(cloud.instances) == ["i-1"]
    assert len(await stage.published(InstanceLaunched)) == 1


async def test_a_crash_after_the_record_has_published_for_good(
    ports: Ports, cloud: ScriptedCompute, stage: Stage, clock: VirtualClock
) -> None:
    await stage.deliver(requested())
    doomed = Stage(build(CONFIG, crashing(ports, "launcher.recorded"), cloud))
    with pytest.raises(Crash):
        await doomed.sweep(LAUNCH)
    clock.advance(CONFIG.lease_seconds)
    await stage.sweep(LAUNCH)
    assert len(cloud.asked) == 1
    assert len(await stage.published(InstanceLaunched)) == 1


async def test_a_lost_answer_adopts_the_first_instance(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.lose_answers = True
    await stage.deliver(requested())
    await stage.sweep(LAUNCH)
    (delay,) = await stage.published(LaunchDelayed)
    assert delay.reason == "unknown_outcome"
    cloud.lose_answers = False
    clock.advance(1)
    await stage.sweep(LAUNCH)
    assert list(cloud.instances) == ["i-1"]
    assert len(cloud.questions) == 1
    (launched,) = await stage.published(InstanceLaunched)
    assert launched.instance_id == "i-1"


async def test_no_capacity_leads_to_another_offer_with_another_token(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.refusals += [NoCapacity("none here"), NoCapacity("none there")]
    await stage.deliver(requested())
    for _ in range(3):
        await stage.sweep(LAUNCH)
        clock.advance(10)
    assert len({each.token for each in cloud.asked}) == 3
    assert [each.reason for each in await stage.published(LaunchDelayed)] == ["no_capacity"]
    assert len(await stage.published(InstanceLaunched)) == 1


async def test_a_batch_is_asked_for_again_as_a_whole_by_its_token_and_plan(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.gathers = True
    cloud.lose_answers = True
    await stage.deliver(*(requested(job_id) for job_id in range(1, 11)))
    await stage.sweep(LAUNCH)
    cloud.lose_answers = False
    await stage.deliver(CANCELLED, requested(11))
    clock.advance(1)
    await stage.sweep(LAUNCH)
    first, again = (each for each in cloud.batches if len(each.requests) == 10)
    assert (again.token, again.plan, again.requests) == (first.token, first.plan, first.requests)
    assert (first.repeated, again.repeated) == (False, True)
    assert len(cloud.instances) == 11
    assert len(await stage.published(InstanceLaunched)) == 11


async def test_what_a_batch_did_not_get_is_asked_for_in_another(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.short_by = 2
    await stage.deliver(*(requested(job_id) for job_id in range(1, 6)))
    await stage.sweep(LAUNCH)
    assert len(await stage.published(InstanceLaunched)) == 3
    assert {each.job_id for each in await stage.published(LaunchDelayed)} == {4, 5}
    cloud.short_by = 0
    clock.advance(10)
    assert await stage.sweep(LAUNCH) is None
    assert len({each.token for each in cloud.batches}) == 2
    assert [len(each.requests) for each in cloud.batches] == [5, 2]
    assert len(await stage.published(InstanceLaunched)) == 5


async def test_where_a_batch_is_one_call_launches_are_gathered_until_none_comes(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.gathers = True
    for job_id in (1, 2, 3):
        await stage.deliver(requested(job_id))
        idle = clock.now() + timedelta(seconds=CONFIG.gather_idle_seconds)
        assert await stage.sweep(LAUNCH) == idle
        clock.advance(0.02)
    clock.advance(CONFIG.gather_idle_seconds)
    await stage.sweep(LAUNCH)
    assert [len(each.requests) for each in cloud.batches] == [3]


async def test_a_full_batch_is_asked_for_at_once(stage: Stage, cloud: ScriptedCompute) -> None:
    cloud.gathers = True
    await stage.deliver(*(requested(job_id) for job_id in range(1, CONFIG.gathered_batch + 1)))
    await stage.sweep(LAUNCH)
    assert len(cloud.instances) == CONFIG.gathered_batch


async def test_on_demand_comes_when_the_wait_for_spot_is_over(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.refusals.append(NoCapacity("none in zone-a"))
    await stage.deliver(requested(capacity="spot_then_on_demand", spot_wait_seconds=3))
    assert await stage.sweep(LAUNCH) == START + timedelta(seconds=3)
    clock.advance(3)
    await stage.sweep(LAUNCH)
    assert [each.market for each in cloud.asked] == ["spot", "on-demand"]


async def test_what_cannot_be_planned_waits_or_is_refused_and_says_why(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.plan_errors += [NoCapacity("all pools rest"), Rejected("no such parameter: /ami")]
    await stage.deliver(requested())
    await stage.sweep(LAUNCH)
    assert await states(stage) == [("wanted", False)]
    (delay,) = await stage.published(LaunchDelayed)
    assert delay.message == "all pools rest"
    clock.advance(5)
    await stage.sweep(LAUNCH)
    (refused,) = await stage.published(LaunchRefused)
    assert refused.message == "no such parameter: /ami"
    assert cloud.asked == []


async def test_a_cancel_while_it_is_planned_leaves_it_out_of_the_call(
    stage: Stage, cloud: ScriptedCompute, points: WatchedPoints
) -> None:
    await stage.deliver(requested(1), requested(2))
    cloud.planning.clear()
    call = asyncio.create_task(stage.sweep(LAUNCH))
    await points.wait_for("launcher.claimed")
    await stage.deliver(CANCELLED)
    cloud.planning.set()
    await call
    assert [each.job_id for each in cloud.asked] == [2]
    assert await states(stage) == [("cancelled", True), ("launched", False)]


@pytest.mark.parametrize("error", [QuotaReached("64 vCPUs"), Throttled("slow down")])
async def test_quota_and_throttling_wait_and_can_be_cancelled(
    stage: Stage,
    cloud: ScriptedCompute,
    clock: VirtualClock,
    error: QuotaReached | Throttled,
) -> None:
    cloud.refusals.append(error)
    await stage.deliver(requested())
    next_at = await stage.sweep(LAUNCH)
    (delay,) = await stage.published(LaunchDelayed)
    assert delay.next_try_at == next_at
    await stage.deliver(CANCELLED)
    clock.advance(10)
    assert await stage.sweep(LAUNCH) is None
    assert len(cloud.asked) == 1
    assert await states(stage) == [("cancelled", True)]


async def test_a_rejection_is_published_and_never_tried_again(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.refusals.append(Rejected("no such image"))
    await stage.deliver(requested())
    assert await stage.sweep(LAUNCH) is None
    clock.advance(3600)
    await stage.sweep(LAUNCH)
    (refused,) = await stage.published(LaunchRefused)
    assert refused.message == "no such image"
    assert len(cloud.asked) == 1


async def test_a_cancel_while_the_call_is_under_way_still_publishes_the_instance(
    stage: Stage, cloud: ScriptedCompute, points: WatchedPoints
) -> None:
    await stage.deliver(requested())
    cloud.answering.clear()
    call = asyncio.create_task(stage.sweep(LAUNCH))
    await points.wait_for("launcher.intent_committed")
    await stage.deliver(CANCELLED, ENDED)
    cloud.answering.set()
    await call
    assert await states(stage) == [("launched", True)]
    assert len(await stage.published(InstanceLaunched)) == 1


async def test_an_unwanted_launch_is_asked_for_until_the_answer_is_definite(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.refusals += [Unknown("timeout"), Throttled("slow down"), NoCapacity("none")]
    await stage.deliver(requested())
    await stage.sweep(LAUNCH)
    await stage.deliver(CANCELLED)
    for expected in (("asked", True), ("cancelled", True)):
        clock.advance(10)
        await stage.sweep(LAUNCH)
        assert await states(stage) == [expected]
    assert len(cloud.questions) == 1
    assert [each.reason for each in await stage.published(LaunchDelayed)] == ["unknown_outcome"]


async def test_a_call_that_outlives_its_lease_is_repeated_elsewhere_and_published_once(
    ports: Ports, cloud: ScriptedCompute, points: WatchedPoints, clock: VirtualClock
) -> None:
    slow, fast = (Stage(build(CONFIG, ports, cloud)) for _ in range(2))
    await slow.deliver(requested())
    cloud.answering.clear()
    first = asyncio.create_task(slow.sweep(LAUNCH))
    await points.wait_for("launcher.calling")
    clock.advance(CONFIG.lease_seconds)
    second = asyncio.create_task(fast.sweep(LAUNCH))
    await points.wait_for("launcher.calling", 2)
    cloud.answering.set()
    await asyncio.gather(first, second)
    assert list(cloud.instances) == ["i-1"]
    assert len(await fast.published(InstanceLaunched)) == 1


async def test_replicas_share_the_work_and_number_their_launches_without_a_gap(
    ports: Ports, cloud: ScriptedCompute
) -> None:
    one, two = (Stage(build(CONFIG, ports, cloud)) for _ in range(2))
    await one.deliver(*(requested(job_id) for job_id in range(1, 36)))
    for _ in range(2):
        await asyncio.gather(one.sweep(LAUNCH), two.sweep(LAUNCH), two.sweep("launch_due_2"))
    published = await one.published(InstanceLaunched)
    assert sorted(each.job_id for each in published) == list(range(1, 36))
    assert sorted(each.launch_sequence for each in published) == list(range(1, 36))
    assert len(cloud.instances) == 35


async def test_one_call_carries_a_whole_batch(stage: Stage, cloud: ScriptedCompute) -> None:
    await stage.deliver(*(requested(job_id) for job_id in range(1, 11)))
    await stage.sweep(LAUNCH)
    assert cloud.launch_calls == 1
    assert len(cloud.instances) == 10


async def test_a_request_that_breaks_the_adapter_delays_only_itself(
    stage: Stage, cloud: ScriptedCompute
) -> None:
    cloud.breaks_on_job = 2
    await stage.deliver(requested(1), requested(2), requested(3))
    await stage.sweep(LAUNCH)
    assert [state for state, _ in await states(stage)] == ["launched", "asked", "launched"]


async def test_an_instance_that_has_ended_already_is_published_all_the_same(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.lose_answers = True
    await stage.deliver(requested())
    await stage.sweep(LAUNCH)
    cloud.end("i-1")
    cloud.lose_answers = False
    clock.advance(1)
    await stage.sweep(LAUNCH)
    assert len(await stage.published(InstanceLaunched)) == 1


async def test_the_watermark_waits_for_the_open_call_and_counts_what_was_published(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    await stage.deliver(requested(1))
    await stage.sweep(LAUNCH)
    cloud.refusals.append(Unknown("timeout"))
    clock.advance(100)
    await stage.deliver(requested(2))
    await stage.sweep(LAUNCH)
    clock.advance(100)
    await stage.sweep("report_launches")
    await stage.sweep(LAUNCH)
    await stage.sweep("report_launches")
    margin = CONFIG.report_margin_seconds
    assert await stage.published(LaunchesReported) == [
        LaunchesReported(before=START + timedelta(seconds=100 - margin), launch_sequence=1),
        LaunchesReported(before=START + timedelta(seconds=200 - margin), launch_sequence=2),
    ]


async def test_settled_launches_are_forgotten_after_a_week_and_open_ones_never(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.refusals.append(Unknown("timeout"))
    await stage.deliver(requested(99))
    await stage.sweep(LAUNCH)
    await stage.deliver(*(JobCancelled(job_id=job_id, attempt=1) for job_id in range(1, 16)))
    clock.advance(7 * 86_400 + 1)
    assert await stage.sweep("prune_launches") == clock.now()
    assert await stage.sweep("prune_launches") is None
    assert await states(stage) == [("asked", False)]


async def test_no_secret_is_stored_or_published(stage: Stage, cloud: ScriptedCompute) -> None:
    await stage.deliver(requested())
    await stage.sweep(LAUNCH)
    (request,) = cloud.asked
    written = await stage.rows("SELECT launches::text AS text FROM launches")
    written = [*written, *await stage.rows("SELECT encode(body, 'escape') AS text FROM outbox")]
    assert not any(request.bootstrap_token in row["text"] for row in written)


async def test_a_call_locks_its_own_launches_and_not_all_that_were_claimed_with_them(
    stage: Stage,
) -> None:
    token = uuid.uuid4()
    await stage.deliver(*(requested(job_id) for job_id in range(1, 11)))
    db = stage.ports.db
    async with db.transaction() as tx:
        due = await store.lock_due(tx, 10)
        await store.lease_wanted(tx, due, tx.now + timedelta(seconds=35), token)
    first, second = due[:3], due[3:]
    async with db.transaction() as tx, db.transaction() as other:
        held = await store.lock_wanted(tx, first, token)
        assert held == {each.key for each in first}
        # Neither waits for the other: with one lock for all this would be a deadlock.
        held = await asyncio.wait_for(store.lock_wanted(other, second, token), 5)
        assert held == {each.key for each in second}


async def test_what_a_call_locks_is_found_by_its_key_and_under_its_lease_alone(
    stage: Stage,
) -> None:
    token = uuid.uuid4()
    await stage.deliver(*(requested(job_id) for job_id in range(1, 4)))
    await stage.deliver(replace(CANCELLED, job_id=2))
    async with stage.ports.db.transaction() as tx:
        due = await store.lock_due(tx, 10)
        await store.lease_wanted(tx, due, tx.now + timedelta(seconds=35), token)
        assert await store.lock_wanted(tx, due, uuid.uuid4()) == set()
        assert await store.lock_wanted(tx, due, token) == {(1, 1), (3, 1)}
        assert await store.lock_wanted(tx, [], token) == set()
