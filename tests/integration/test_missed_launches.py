"""The watermark heals: the reaper asks for launch reports that are missing, or skips them."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
import structlog

from operations.wiring import TOPOLOGY
from services.reaper.config import ReaperConfig
from services.reaper.service import build
from shared.bus.memory import MemoryBus
from shared.clock import VirtualClock
from shared.events.events import (
    AttemptEnded,
    InstanceLaunched,
    InstanceTerminated,
    LaunchesMissed,
    LaunchesReported,
)
from shared.runtime.service import Ports
from tests.support.compute.scripted_compute import ScriptedCompute
from tests.support.compute.stage import Stage

START = datetime(2026, 1, 1, tzinfo=UTC)
CONFIG = ReaperConfig(max_lifetime_seconds=3600)
MISSED = "report_missed_launches"
ALERT = "launch reports are missing: orphans are not ended meanwhile"


def launched(number: int) -> InstanceLaunched:
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
        dies_by=START + timedelta(hours=1),
        launch_sequence=number,
    )


def missed(first: int, last: int) -> LaunchesMissed:
    return LaunchesMissed(first_launch_sequence=first, last_launch_sequence=last)


@pytest.fixture
async def ports(ports_of: Callable[[str], Awaitable[Ports]]) -> Ports:
    return await ports_of("reaper")


@pytest.fixture
def cloud(clock: VirtualClock) -> ScriptedCompute:
    return ScriptedCompute(clock)


@pytest.fixture
def stage(ports: Ports, cloud: ScriptedCompute) -> Stage:
    return Stage(build(CONFIG, ports, cloud))


async def live(stage: Stage, clock: VirtualClock, seconds: float, counted: int) -> None:
    """Let the reaper run for so long, with a watermark of the launcher every 15 s."""
    for _ in range(round(seconds / 15)):
        clock.advance(15)
        before = clock.now() - timedelta(seconds=60)
        await stage.deliver(LaunchesReported(before=before, launch_sequence=counted))
        for sweep in ("watch_instances", "terminate_ending", MISSED):
            await stage.sweep(sweep)


async def test_missing_reports_are_published_as_missed_and_orphans_end_once_they_have_come(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    numbers = (1, 2, 5, 6, 8)
    for number in range(1, 10):
        cloud.show(f"i-{number}", number)
    await stage.deliver(*(launched(number) for number in numbers))
    cloud.show("i-stray", 99)
    await live(stage, clock, 120, counted=9)
    assert await stage.published(LaunchesMissed) == []
    with structlog.testing.capture_logs() as entries:
        await live(stage, clock, 15, counted=9)
    expected = [missed(3, 4), missed(7, 7), missed(9, 9)]
    assert await stage.published(LaunchesMissed) == expected
    [alert] = [each for each in entries if each["event"] == ALERT]
    assert (alert["log_level"], alert["first"], alert["last"], alert["launches"]) == (
        *("error", 3, 9),
        4,
    )
    assert cloud.terminated == []
    await live(stage, clock, 120, counted=9)
    assert await stage.published(LaunchesMissed) == expected * 2
    with structlog.testing.capture_logs() as entries:
        await stage.deliver(*(launched(number) for number in (9, 7, 3, 4)))
        await live(stage, clock, 60, counted=9)
    assert "the missing launch reports have come" in [each["event"] for each in entries]
    assert cloud.terminated == [["i-stray"]]
    assert await stage.published(LaunchesMissed) == expected * 2


async def test_a_report_that_comes_again_changes_nothing(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.show("i-1")
    await stage.deliver(launched(1))
    await live(stage, clock, 60, counted=1)
    cloud.end("i-1")
    await live(stage, clock, 30, counted=1)
    await stage.deliver(launched(1))
    await live(stage, clock, 300, counted=1)
    rows = await stage.rows("SELECT state, heard_through FROM instances CROSS JOIN watermark")
    assert [tuple(row.values()) for row in rows] == [("terminated", 1)]
    assert [each.name for each in await stage.outbox()] == ["InstanceTerminated"]


async def test_reports_that_cannot_be_had_stop_mattering_when_no_instance_of_theirs_may_live(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    healthy = cloud.show("i-2", 2)
    await stage.deliver(launched(1))
    cloud.show("i-1", 1)
    await live(stage, clock, 15, counted=2)
    assert healthy.launched_at == START
    await live(stage, clock, 3630, counted=2)
    assert cloud.terminated == []
    await live(stage, clock, 30, counted=2)
    assert cloud.terminated == [["i-1", "i-2"]], "they are past their lifetime"
    cloud.show("i-stray", 99)
    await live(stage, clock, 180, counted=2)
    assert cloud.terminated[1:] == [["i-stray"]]
    rows = await stage.rows("SELECT heard_through FROM watermark")
    assert [row["heard_through"] for row in rows] == [2]
    assert await stage.rows("SELECT * FROM missed_launches") == []


async def test_an_end_that_is_reported_again_publishes_the_termination_again(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    ended = AttemptEnded(job_id=1, attempt=1, cause="lost", ended_at=START, terminate_after=START)
    cloud.show("i-1", 1)
    await stage.deliver(launched(1), ended)
    await stage.deliver(ended)
    assert await stage.outbox() == []
    await live(stage, clock, 15, counted=1)
    [first] = await stage.published(InstanceTerminated)
    await stage.deliver(ended)
    assert await stage.published(InstanceTerminated) == [first, first]
    assert cloud.terminated == [["i-1"]]


class Cuttable(MemoryBus):
    """A bus that a test cuts off."""

    connected = True

    async def ready(self) -> bool:
        return self.connected


async def test_a_reaper_that_could_not_receive_asks_only_after_it_has_listened(
    ports: Ports, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    bus = Cuttable(TOPOLOGY)
    stage = Stage(build(CONFIG, dataclasses.replace(ports, bus=bus), cloud))
    await live(stage, clock, 15, counted=1)
    bus.connected = False
    await live(stage, clock, 600, counted=1)
    bus.connected = True
    await live(stage, clock, 120, counted=1)
    assert await stage.published(LaunchesMissed) == []
    await live(stage, clock, 15, counted=1)
    assert await stage.published(LaunchesMissed) == [missed(1, 1)]


async def test_of_two_reapers_at_once_one_asks(
    ports: Ports, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    stages = [Stage(build(CONFIG, ports, cloud)) for _ in range(2)]
    await stages[0].deliver(LaunchesReported(before=START, launch_sequence=3))
    for _ in range(12):
        await asyncio.gather(*(stage.sweep(MISSED) for stage in stages))
        clock.advance(15)
    assert await stages[0].published(LaunchesMissed) == [missed(1, 3)]
