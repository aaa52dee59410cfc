"""Attempts that are overdue without a launch are asked for again, by an API that can receive."""

import asyncio
import dataclasses
from datetime import timedelta

import structlog

from operations.wiring import TOPOLOGY
from services.api.jobs import overdue
from shared.bus.memory import MemoryBus
from shared.clock import VirtualClock
from shared.events.events import AttemptEnded, JobScheduled
from tests.support.api.api_world import World

LINE = "attempts were asked for again: no launch, or no end of the instance, is reported"


async def send(world: World) -> None:
    """Confirm the API's events, as a broker would."""
    async with world.ports.db.connection() as conn:
        await conn.execute(
            "UPDATE outbox SET published_at = $1 WHERE published_at IS NULL", world.clock.now()
        )


async def listen(world: World, clock: VirtualClock, seconds: float) -> None:
    """Let the API run for so long with a broker: its events are published, its sweeps run."""
    await send(world)
    await world.stage.sweep("ask_again")
    for _ in range(round(seconds / 15)):
        clock.advance(15)
        await send(world)
        await world.stage.sweep("ask_again")


async def asked(world: World) -> list[tuple[int, int]]:
    """Return job and attempt of what has been scheduled, in order."""
    found = await world.stage.published(JobScheduled)
    return [(each.job_id, each.attempt) for each in found]


async def test_an_attempt_without_a_launch_is_asked_for_again_with_the_same_content(
    world: World, clock: VirtualClock
) -> None:
    job_id = (await world.post(timeout_seconds=60, resources={"vcpus": 4}))["id"]
    await listen(world, clock, 120)
    first, again = [each for each in await world.stage.outbox() if each.name == "JobScheduled"]
    assert first.body == again.body
    assert first.id != again.id
    assert first.trace == again.trace
    assert (await world.status(job_id))["phase"] == "launching"


async def test_it_is_asked_for_when_the_time_overdue_has_doubled_at_most_hourly(
    world: World, clock: VirtualClock
) -> None:
    await world.post()
    await listen(world, clock, 0)
    start, counts = clock.now(), 1
    asked_at = []
    for _ in range(4 * 60 * 4):
        await listen(world, clock, 15)
        if len(await asked(world)) > counts:
            counts += 1
            asked_at.append((clock.now() - start) // timedelta(minutes=1))
    assert asked_at == [2, 4, 8, 16, 32, 64, 124, 184]


async def test_what_is_reported_waits_or_is_over_is_left_alone(
    world: World, clock: VirtualClock
) -> None:
    launched = (await world.post())["id"]
    await world.deliver(world.launched(launched))
    cancelled = (await world.post())["id"]
    await world.cancel(cancelled)
    refused = (await world.post())["id"]
    await world.deliver(world.refused(refused))
    claimed = (await world.post())["id"]
    await world.claim(claimed)
    at = (clock.now() + timedelta(hours=1)).isoformat()
    later = (await world.post(scheduled_for=at))["id"]
    before = await asked(world)
    await listen(world, clock, 3600)
    assert await asked(world) == before
    await listen(world, clock, 120)
    assert await asked(world) == [*before, (later, 1)]


async def test_the_end_of_an_attempt_is_published_again_until_its_instance_is_terminated(
    world: World, clock: VirtualClock
) -> None:
    agent = await world.running()
    await world.call_back(agent, {})
    [first] = await world.stage.published(AttemptEnded)
    await listen(world, clock, 285)
    assert await world.stage.published(AttemptEnded) == [first]
    await listen(world, clock, 30)
    assert await world.stage.published(AttemptEnded) == [first, first]
    await listen(world, clock, 330)
    assert await world.stage.published(AttemptEnded) == [first] * 3
    await world.deliver(world.terminated(agent.job_id))
    await listen(world, clock, 7200)
    assert await world.stage.published(AttemptEnded) == [first] * 3


async def test_an_instance_that_the_reaper_has_forgotten_is_no_longer_asked_for(
    world: World, clock: VirtualClock
) -> None:
    agent = await world.running()
    await world.call_back(agent, {})
    await listen(world, clock, 0)
    clock.advance(6 * 86_400)
    await listen(world, clock, 300)
    assert len(await world.stage.published(AttemptEnded)) == 1


async def test_for_a_held_attempt_the_end_before_it_is_published_again(
    world: World, clock: VirtualClock
) -> None:
    agent = await world.running()
    for _ in range(30):
        clock.advance(2)
        await world.stage.sweep("record_availability")
    await world.stage.sweep("end_silent")
    await world.stage.sweep("record_availability")
    clock.advance(2)
    await world.stage.sweep("end_silent")
    attempts = (await world.status(agent.job_id))["attempts"]
    assert [each["cause"] for each in attempts[:1]] == ["lost"]
    before = await asked(world)
    await listen(world, clock, 150)
    assert await asked(world) == before
    first, again = await world.stage.published(AttemptEnded)
    assert first == again
    await world.deliver(world.terminated(agent.job_id))
    assert (await asked(world))[len(before) :] == [(agent.job_id, 2)]
    await listen(world, clock, 60)
    assert len(await world.stage.published(AttemptEnded)) == 2


async def test_a_delayed_attempt_is_asked_for_once_the_launchers_next_try_is_long_past(
    world: World, clock: VirtualClock
) -> None:
    job_id = (await world.post())["id"]
    for _ in range(20):
        await world.deliver(world.delayed(job_id))
        await listen(world, clock, 60)
    assert await asked(world) == [(job_id, 1)]
    await listen(world, clock, 60)
    assert await asked(world) == [(job_id, 1)] * 2


async def test_an_api_that_has_just_started_first_listens(
    world: World, clock: VirtualClock
) -> None:
    await world.post()
    clock.advance(3600)
    restarted = world.again()
    await listen(restarted, clock, 105)
    assert len(await asked(world)) == 1
    await listen(restarted, clock, 15)
    assert len(await asked(world)) == 2
    await restarted.close()


class Cuttable(MemoryBus):
    """A bus that a test cuts off."""

    connected = True

    async def ready(self) -> bool:
        return self.connected


async def test_while_the_broker_is_away_nobody_is_called_silent(
    world: World, clock: VirtualClock
) -> None:
    bus = Cuttable(TOPOLOGY)
    cut = World(dataclasses.replace(world.ports, bus=bus), clock)
    await cut.post()
    await listen(cut, clock, 60)
    bus.connected = False
    await listen(cut, clock, 600)
    assert len(await asked(cut)) == 1
    bus.connected = True
    await listen(cut, clock, 105)
    assert len(await asked(cut)) == 1
    await listen(cut, clock, 15)
    assert len(await asked(cut)) == 2
    await cut.close()


async def test_while_our_own_events_are_unsent_nobody_is_called_silent(
    world: World, clock: VirtualClock
) -> None:
    await world.post()
    for _ in range(40):
        clock.advance(15)
        await world.stage.sweep("ask_again")
    assert len(await asked(world)) == 1
    await listen(world, clock, 105)
    assert len(await asked(world)) == 1
    await listen(world, clock, 15)
    assert len(await asked(world)) == 2


async def test_all_are_asked_for_in_bounded_passes_with_one_line_each(
    world: World, clock: VirtualClock
) -> None:
    count = overdue.BATCH + 120
    posted = await asyncio.gather(*(world.post() for _ in range(count)))
    await listen(world, clock, 105)
    clock.advance(15)
    await send(world)
    with structlog.testing.capture_logs() as entries:
        passes = [await world.stage.sweep("ask_again") for _ in range(3)]
    assert passes == [clock.now(), None, None]
    lines = [each for each in entries if each["event"] == LINE]
    assert [each["attempts"] for each in lines] == [overdue.BATCH, 120]
    assert all(len(each["first"]) == overdue.LOGGED for each in lines)
    again = (await asked(world))[count:]
    assert len(again) == count
    assert {job_id for job_id, _ in again} == {each["id"] for each in posted}


async def test_a_job_that_is_locked_waits_for_the_next_pass_and_holds_up_no_other(
    world: World, clock: VirtualClock
) -> None:
    locked, free = (await world.post())["id"], (await world.post())["id"]
    await listen(world, clock, 105)
    async with world.ports.db.transaction() as other:
        await other.conn.execute("SELECT FROM jobs WHERE id = $1 FOR UPDATE", locked)
        await listen(world, clock, 15)
        assert (await asked(world))[2:] == [(free, 1)]
    await listen(world, clock, 15)
    assert (await asked(world))[2:] == [(free, 1), (locked, 1)]


async def test_of_two_replicas_at_once_one_asks(world: World, clock: VirtualClock) -> None:
    for _ in range(20):
        await world.post()
    other = world.again()
    await send(world)
    for _ in range(9):
        await asyncio.gather(world.stage.sweep("ask_again"), other.stage.sweep("ask_again"))
        clock.advance(15)
    again = (await asked(world))[20:]
    assert len(again) == len(set(again)) == 20
    await other.close()
