"""The loops of a service: their ends, their survivals, and their wake-ups."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import NoReturn

import pytest
import structlog

from shared.bus.memory import MemoryBus
from shared.clock import RealClock, VirtualClock
from shared.runtime.process import Part, run_parts
from shared.runtime.service import Ports, Service, Sweep

NAME = "scheduler"
LONG = 3600.0


@pytest.fixture
async def ports(ports_of: Callable[[str], Awaitable[Ports]]) -> Ports:
    return await ports_of(NAME)


class Counted:
    """A sweep that counts its runs, and runs the test's function."""

    def __init__(self) -> None:
        self.runs = 0
        self.changed = asyncio.Event()
        self.act: Callable[[], Awaitable[datetime | None]] | None = None

    async def run(self) -> datetime | None:
        self.runs += 1
        self.changed.set()
        self.changed = asyncio.Event()
        return await self.act() if self.act else None

    async def wait_for(self, runs: int) -> None:
        async with asyncio.timeout(20):
            while self.runs < runs:
                await self.changed.wait()


async def turns() -> None:
    """Let everything run that can run now, up to where it waits for the clock."""
    for _ in range(20):
        await asyncio.sleep(0)


def service_with(ports: Ports, counted: Counted, interval: float = LONG) -> Service:
    return Service(
        NAME, ports, subscribers={}, sweeps=(Sweep("count", counted.run, interval),), publishes=()
    )


async def drained(service: Service, running: "asyncio.Task[None]") -> None:
    service.drain()
    async with asyncio.timeout(10):
        await running


async def test_a_service_runs_until_it_is_drained(ports: Ports) -> None:
    counted = Counted()
    service = service_with(ports, counted)
    running = asyncio.create_task(service.run())
    await counted.wait_for(1)
    assert not running.done()
    await drained(service, running)


async def test_a_loop_that_ends_ends_the_service_by_name(ports: Ports) -> None:
    counted = Counted()

    async def cancelled_by_itself() -> datetime | None:
        """Raise as a publish does whose frozen broker's connection dies."""
        raise asyncio.CancelledError

    counted.act = cancelled_by_itself
    with pytest.raises(RuntimeError, match=r"scheduler\.count ended by itself"):
        await service_with(ports, counted).run()


async def test_a_consumer_that_fails_for_good_ends_the_service(ports: Ports) -> None:
    class Broken(MemoryBus):
        async def subscribe(self, queue: str) -> NoReturn:
            raise LookupError(queue)

    broken = Ports(
        db=ports.db,
        bus=Broken({NAME: ()}),
        clock=ports.clock,
        wakeups=ports.wakeups,
        points=ports.points,
    )
    with pytest.raises(RuntimeError, match=r"scheduler\.consumer ended by itself") as raised:
        await service_with(broken, Counted()).run()
    assert isinstance(raised.value.__cause__, LookupError)


async def test_a_sweep_that_fails_is_run_again(ports: Ports) -> None:
    counted = Counted()

    async def fail_twice() -> datetime | None:
        if counted.runs < 3:
            raise ValueError("not now")
        return None

    counted.act = fail_twice
    service = service_with(ports, counted)
    running = asyncio.create_task(service.run())
    await counted.wait_for(3)
    await drained(service, running)


async def test_a_wake_up_runs_a_sweep_at_once_and_one_during_a_pass_means_one_more(
    ports: Ports,
) -> None:
    counted = Counted()
    service = service_with(ports, counted)
    running = asyncio.create_task(service.run())
    await counted.wait_for(1)
    ports.wakeups.wake("count")
    await counted.wait_for(2)

    async def woken_meanwhile() -> datetime | None:
        if counted.runs == 3:
            ports.wakeups.wake("count")
        return None

    counted.act = woken_meanwhile
    ports.wakeups.wake("count")
    await counted.wait_for(4)
    await drained(service, running)


async def test_a_sweep_runs_again_when_it_says_or_after_its_interval(
    ports: Ports, clock: VirtualClock
) -> None:
    counted = Counted()

    async def in_ten_seconds() -> datetime | None:
        return clock.now() + timedelta(seconds=10) if counted.runs == 1 else None

    counted.act = in_ten_seconds
    service = service_with(ports, counted, interval=60)
    # Its own loop alone: a connected LISTEN wakes every sweep once.
    running = asyncio.create_task(service._run_sweep(service.sweeps[-1]))
    await counted.wait_for(1)
    await turns()
    clock.advance(9)
    await turns()
    assert counted.runs == 1
    clock.advance(1)
    await counted.wait_for(2)
    await turns()
    clock.advance(60)
    await counted.wait_for(3)
    service.drain()
    await running


async def test_draining_lets_a_pass_that_is_under_way_finish(ports: Ports) -> None:
    counted = Counted()
    finished = asyncio.Event()
    go_on = asyncio.Event()

    async def slow() -> datetime | None:
        await go_on.wait()
        finished.set()
        return None

    counted.act = slow
    service = service_with(ports, counted)
    running = asyncio.create_task(service.run())
    await counted.wait_for(1)
    service.drain()
    go_on.set()
    async with asyncio.timeout(10):
        await running
    assert finished.is_set()
    assert counted.runs == 1


async def test_the_end_of_one_part_ends_all_of_a_program_and_is_named() -> None:
    stop, draining = asyncio.Event(), asyncio.Event()

    async def ends() -> None:
        raise ValueError("over")

    async def runs() -> None:
        await draining.wait()

    async def drain() -> None:
        draining.set()

    with pytest.raises(RuntimeError, match="a part ended by itself: broken") as raised:
        await run_parts([Part("broken", ends()), Part("whole", runs())], stop, drain)
    assert isinstance(raised.value.__cause__, ValueError)


async def test_the_errors_of_all_parts_are_shown() -> None:
    async def fails(error: Exception) -> None:
        raise error

    async def drain() -> None: ...

    one, two = ValueError("one"), KeyError("two")
    parts = [Part("one", fails(one)), Part("two", fails(two))]
    with pytest.raises(RuntimeError, match="a part ended by itself: one, two") as raised:
        await run_parts(parts, asyncio.Event(), drain)
    group = raised.value.__cause__
    assert isinstance(group, BaseExceptionGroup)
    assert group.exceptions == (one, two)


async def test_a_part_that_fails_while_it_drains_is_logged() -> None:
    stop, draining = asyncio.Event(), asyncio.Event()

    async def fails() -> None:
        await draining.wait()
        raise ValueError("not stored")

    async def drain() -> None:
        draining.set()

    stop.set()
    with structlog.testing.capture_logs() as entries:
        await run_parts([Part("broken", fails())], stop, drain)
    [entry] = entries
    assert (entry["part"], str(entry["exc_info"])) == ("broken", "not stored")


async def test_a_sweep_that_fails_while_its_service_drains_is_logged(ports: Ports) -> None:
    counted = Counted()
    running_sweep = asyncio.Event()

    async def fail_when_draining() -> datetime | None:
        running_sweep.set()
        while not service._draining.is_set():  # noqa: ASYNC110 - asyncio has no event for it
            await asyncio.sleep(0)
        raise ValueError("half done")

    counted.act = fail_when_draining
    service = service_with(ports, counted)
    with structlog.testing.capture_logs() as entries:
        running = asyncio.create_task(service.run())
        await running_sweep.wait()
        await drained(service, running)
    failed = [each for each in entries if each["event"] == "sweep failed"]
    assert [str(each["exc_info"]) for each in failed] == ["half done"]


async def test_a_program_that_is_asked_to_stop_drains_and_returns() -> None:
    stop, draining = asyncio.Event(), asyncio.Event()

    async def runs() -> None:
        await draining.wait()

    async def drain() -> None:
        draining.set()

    running = asyncio.create_task(run_parts([Part("whole", runs())], stop, drain))
    stop.set()
    await running


async def test_the_real_clock_waits_for_an_event_or_its_time() -> None:
    clock, event = RealClock(), asyncio.Event()
    assert not await clock.wait(event, 0.001)
    event.set()
    assert await clock.wait(event, 60)
