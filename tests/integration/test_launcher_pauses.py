"""Pauses of launching: nothing is asked for, then one launch at a time, until an instance boots."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from msgspec.structs import replace

from services.launcher.config import LauncherConfig
from services.launcher.service import build
from shared.clock import VirtualClock
from shared.compute.port import Misconfigured, NoCapacity, Unknown
from shared.events.events import (
    AttemptEnded,
    InstanceLaunched,
    InstanceRequested,
    LaunchDelayed,
    LaunchesPaused,
    LaunchesResumed,
    LaunchRefused,
)
from shared.events.requirements import Requirements
from shared.launch_pauses import PAUSED
from shared.runtime.service import Ports
from tests.support.compute.scripted_compute import ScriptedCompute
from tests.support.compute.stage import Stage

START = datetime(2026, 1, 1, tzinfo=UTC)
CONFIG = LauncherConfig(deployment="home", api_url="http://api", token_key="key", batch=10)
LAUNCH = "launch_due_1"
WHY = "launches are paused: 5 instances in a row have not booted; the last: no claim"
RESUMED = LaunchesResumed(sequence=2)
CHANGE = "check the route from DOCKER_JOB_EC2_SUBNETS"


def paused(sequence: int = 1, seconds: float = 300) -> LaunchesPaused:
    return LaunchesPaused(
        sequence=sequence,
        until=START + timedelta(seconds=seconds),
        message=WHY,
        failures=5,
        trial_seconds=960,
    )


def requested(job_id: int, **wants: object) -> InstanceRequested:
    return InstanceRequested(
        job_id=job_id,
        attempt=1,
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


async def test_a_pause_holds_launches_back_and_publishes_why_until_when(
    stage: Stage, cloud: ScriptedCompute
) -> None:
    await stage.deliver(paused(), *(requested(each) for each in range(1, 16)))
    assert await stage.sweep(LAUNCH) == stage.ports.clock.now()  # a full batch was held back
    assert await stage.sweep(LAUNCH) == START + timedelta(seconds=300)
    await stage.sweep(LAUNCH)
    assert cloud.asked == []
    delays = await stage.published(LaunchDelayed)
    assert sorted(each.job_id for each in delays) == list(range(1, 16))
    assert {(each.message, each.next_try_at, each.pause_sequence) for each in delays} == {
        (f"{WHY}; then one is launched as a trial", START + timedelta(seconds=300), 1)
    }


async def test_after_the_pause_one_launch_is_tried_and_the_rest_wait_for_its_boot(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    await stage.deliver(paused(), *(requested(each) for each in range(1, 6)))
    clock.advance(300)
    assert await stage.sweep(LAUNCH) == clock.now() + timedelta(seconds=960)
    await asyncio.gather(*(stage.sweep(f"launch_due_{lane}") for lane in (1, 2)))
    assert [each.job_id for each in cloud.asked] == [1]
    await stage.deliver(RESUMED)
    await stage.sweep(LAUNCH)
    assert sorted(each.job_id for each in cloud.asked) == [1, 2, 3, 4, 5]


async def test_two_replicas_begin_one_trial(
    ports: Ports, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    replicas = [Stage(build(CONFIG, ports, cloud)) for _ in range(2)]
    await replicas[0].deliver(paused(), *(requested(each) for each in range(1, 9)))
    clock.advance(300)
    sweeps = (each.sweep(f"launch_due_{lane}") for each in replicas for lane in (1, 2))
    await asyncio.gather(*sweeps)
    assert len(cloud.asked) == 1


async def test_a_trial_that_is_known_of_neither_way_is_followed_by_another(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    await stage.deliver(paused(), *(requested(each) for each in (1, 2, 3)))
    clock.advance(300)
    await stage.sweep(LAUNCH)
    clock.advance(959)
    await stage.sweep(LAUNCH)
    assert len(cloud.asked) == 1
    clock.advance(1)
    await stage.sweep(LAUNCH)
    assert [each.job_id for each in cloud.asked] == [1, 2]


async def test_a_trial_without_capacity_leaves_the_trial_to_the_next_launch(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    await stage.deliver(paused(), requested(1), requested(2))
    clock.advance(300)
    cloud.refusals.append(NoCapacity("none"))
    assert await stage.sweep(LAUNCH) == clock.now() + timedelta(seconds=1)
    await stage.sweep(LAUNCH)
    assert [each.job_id for each in cloud.asked] == [1, 2]
    clock.advance(60)
    await stage.sweep(LAUNCH)  # job 1 is due again, and waits for the boot of job 2
    assert [each.job_id for each in cloud.asked] == [1, 2]


async def test_a_call_without_an_answer_is_repeated_in_a_pause_since_instances_may_exist(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    await stage.deliver(requested(1))
    cloud.refusals.append(Unknown("no answer"))
    await stage.sweep(LAUNCH)
    await stage.deliver(paused(), requested(2))
    clock.advance(5)
    await stage.sweep(LAUNCH)
    [launched] = await stage.published(InstanceLaunched)
    assert launched.job_id == 1
    assert {each.job_id for each in cloud.asked} == {1}


async def test_a_job_that_waits_for_capacity_does_not_wait_in_a_pause(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    await stage.deliver(requested(1, capacity="spot", spot_wait_seconds=600))
    await stage.deliver(paused(seconds=3600))
    await stage.sweep(LAUNCH)
    clock.advance(3600)
    cloud.refusals.extend([NoCapacity("none")] * 9)
    await stage.sweep(LAUNCH)
    assert await stage.published(LaunchRefused) == []  # it has waited for no capacity so far
    clock.advance(599)
    await stage.sweep(LAUNCH)
    assert await stage.published(LaunchRefused) == []
    clock.advance(301)
    await stage.sweep(LAUNCH)
    [refused] = await stage.published(LaunchRefused)
    assert refused.reason == "no_capacity"


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_pauses_and_resumptions_in_any_order_end_alike(
    stage: Stage, cloud: ScriptedCompute, order: tuple[int, ...]
) -> None:
    events = (paused(1), RESUMED, paused(3, seconds=900))
    await stage.deliver(*(events[index] for index in order), requested(1))
    assert await stage.sweep(LAUNCH) == START + timedelta(seconds=900)
    assert cloud.asked == []


async def test_a_pause_that_comes_after_its_end_pauses_nothing(
    stage: Stage, cloud: ScriptedCompute
) -> None:
    await stage.deliver(RESUMED, paused(1), requested(1))
    await stage.sweep(LAUNCH)
    assert len(cloud.asked) == 1


async def test_another_pause_ends_the_trial_and_is_published_too(
    stage: Stage, clock: VirtualClock, cloud: ScriptedCompute
) -> None:
    await stage.deliver(paused(), requested(1), requested(2))
    clock.advance(300)
    await stage.sweep(LAUNCH)
    await stage.deliver(paused(2, seconds=1200))
    assert await stage.sweep(LAUNCH) == START + timedelta(seconds=1200)
    sequences = [each.pause_sequence for each in await stage.published(LaunchDelayed)]
    assert sequences.count(2) == 1
    assert len(cloud.asked) == 1


async def test_a_long_wait_is_published_again_with_the_pause_that_it_is_for(
    stage: Stage, clock: VirtualClock
) -> None:
    await stage.deliver(paused(seconds=3600), requested(1))
    for _ in range(3):
        await stage.sweep(LAUNCH)
        clock.advance(601)
    delays = await stage.published(LaunchDelayed)
    assert [each.pause_sequence for each in delays] == [1, 1, 1]


async def test_a_job_that_is_cancelled_in_a_pause_is_launched_by_nobody(
    stage: Stage, cloud: ScriptedCompute
) -> None:
    await stage.deliver(paused(), requested(1))
    await stage.sweep(LAUNCH)
    ended = AttemptEnded(
        job_id=1, attempt=1, cause="cancelled", ended_at=START, terminate_after=START
    )
    await stage.deliver(ended, RESUMED)
    await stage.sweep(LAUNCH)
    assert cloud.asked == []


async def test_what_to_change_is_in_each_delay_and_an_alert_without_what_an_instance_printed(
    stage: Stage, cloud: ScriptedCompute
) -> None:
    why = f"{WHY}; its console: a secret"
    await stage.deliver(replace(paused(), message=why, to_change=CHANGE), requested(1))
    await stage.sweep(LAUNCH)
    [delay] = await stage.published(LaunchDelayed)
    assert delay.to_change == CHANGE
    assert "a secret" in delay.message  # for the job's own users
    await stage.sweep("report_troubles")
    shown = await troubles_of(stage)
    assert shown == [(PAUSED, "launches are paused: 5 instances in a row have not booted")]
    await stage.deliver(RESUMED)
    await stage.sweep(LAUNCH)
    await stage.sweep("report_troubles")
    assert await troubles_of(stage) == []
    assert len(cloud.asked) == 1


async def test_a_pause_shows_under_its_own_name_once_and_refuses_nothing(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.plan_errors.append(Misconfigured("InvalidSubnetID.NotFound: no", change="the subnets"))
    await stage.deliver(requested(1))
    await stage.sweep(LAUNCH)  # refused before the pause, for a fault of the deployment
    more = replace(paused(), message=f"{WHY}; its console: a secret", to_change=CHANGE)
    await stage.deliver(more, *(requested(each) for each in (2, 3)))
    clock.advance(60)
    await stage.sweep(LAUNCH)
    assert await errors_of(stage) == [("launches are paused: instances do not boot", None, 3)]
    clock.advance(60)
    assert await errors_of(stage) == []
    assert dict((await stage.service.look()).degraded) == {
        "launches": "launches are paused since 2026-01-01T00:01:00Z: 5 instances in a row have not "
        "booted"
    }
    clock.advance(180)
    await stage.sweep(LAUNCH)  # the trial, which has no answer yet
    assert await errors_of(stage) == []
    await stage.deliver(RESUMED)
    assert await errors_of(stage) == []  # the rest is held back no more, and not yet asked for
    assert await troubles_of(stage) == []
    assert dict((await stage.service.look()).degraded) == {}


async def test_the_trial_of_a_pause_is_no_refusal_while_it_is_asked_for(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    await stage.deliver(replace(paused(), to_change=CHANGE), requested(1))
    await stage.sweep(LAUNCH)
    clock.advance(300)
    cloud.refusals.append(Unknown("no answer"))
    await stage.sweep(LAUNCH)
    await stage.sweep("report_troubles")
    assert [each for each, _ in await troubles_of(stage)] == [PAUSED]
    await stage.deliver(RESUMED)
    await stage.sweep("report_troubles")
    assert await troubles_of(stage) == []


async def test_the_same_pause_with_more_to_show_is_published_and_leaves_its_trial(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    await stage.deliver(paused(), requested(1), requested(2))
    clock.advance(300)
    await stage.sweep(LAUNCH)
    more = f"{WHY}; its console: Docker does not run"
    await stage.deliver(replace(paused(2), message=more))
    await stage.sweep(LAUNCH)
    assert [each.job_id for each in cloud.asked] == [1]
    assert (await stage.published(LaunchDelayed))[-1].message.startswith(more)


async def errors_of(stage: Stage) -> list[tuple[str, str | None, int]]:
    """Run the sweep; return what it logs as errors: message, what to change, and launches."""
    with structlog.testing.capture_logs() as entries:
        await stage.sweep("report_troubles")
    errors = [each for each in entries if each["log_level"] == "error"]
    return [(each["event"], each["to_change"], each["launches"]) for each in errors]


async def troubles_of(stage: Stage) -> list[tuple[str, str]]:
    rows = await stage.rows("SELECT to_change, message FROM troubles ORDER BY 1")
    return [(each["to_change"], each["message"]) for each in rows]
