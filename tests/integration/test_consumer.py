"""What happens to an event between `take` and `ack`: on a real Postgres, with the memory bus.

The queue is the scheduler's, since a consumer has to be some service's; the handlers are the
tests'.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from shared import dead_letters, messaging, wire
from shared.bus.memory import MemoryBus
from shared.bus.port import Message
from shared.clock import VirtualClock
from shared.consumer import TRIES, Consumer, Subscriber
from shared.db import Transaction
from shared.dead_letters import Which
from shared.events import Event, JobCancelled, JobFinished
from shared.points import WatchedPoints
from shared.runtime import Ports

QUEUE = "scheduler"
AT = datetime(2026, 1, 1, tzinfo=UTC)


class Killed(BaseException):
    """The process ends here: no `except Exception` sees it."""


class KillPoint:
    """Points that kill at one of them."""

    def __init__(self, point: str) -> None:
        self._point = point

    def reached(self, point: str) -> None:
        if point == self._point:
            raise Killed(point)


class Handled:
    """A handler that tells of each effect, and fails where the test says so."""

    def __init__(self) -> None:
        self.calls = 0
        self.failing: Callable[[JobCancelled], Exception | None] = lambda _event: None

    async def __call__(self, event: JobCancelled, tx: Transaction) -> Sequence[Event]:
        self.calls += 1
        error = self.failing(event)
        if error is not None:
            raise error
        return [
            JobFinished(
                job_id=event.job_id, status="CANCELLED", finished_at=tx.now, attempt=event.attempt
            )
        ]


class Line:
    """A consumer with its queue, database and handler."""

    def __init__(self, ports: Ports, bus: MemoryBus) -> None:
        self.ports = ports
        self.bus = bus
        self.handler = Handled()
        self.consumer = Consumer(
            queue=QUEUE,
            subscribers={JobCancelled: Subscriber(self.handler, wakes=("fire_due",))},
            db=ports.db,
            bus=bus,
            wakeups=ports.wakeups,
            points=ports.points,
        )

    def killed_at(self, point: str) -> Consumer:
        """The same consumer in a process that ends at *point*."""
        return dataclasses.replace(self.consumer, points=KillPoint(point))

    async def rows(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        async with self.ports.db.connection() as conn:
            return [dict(row) for row in await conn.fetch(sql, *values)]

    async def effects(self) -> list[int]:
        """The jobs that the handler has taken effect on: as often as it has."""
        told = [wire.decode(row["body"]).body for row in await self.rows("SELECT body FROM outbox")]
        return sorted(each.job_id for each in told if isinstance(each, JobFinished))

    async def parked(self) -> list[dict[str, Any]]:
        return await self.rows("SELECT * FROM parked ORDER BY parked_at, event_id")


@pytest.fixture
def bus() -> MemoryBus:
    """A bus with this queue alone: a publish is confirmed when it has acknowledged."""
    return MemoryBus({QUEUE: ("JobCancelled", "Any")})


@pytest.fixture
async def line(ports_of: Callable[[str], Awaitable[Ports]], bus: MemoryBus) -> Line:
    return Line(await ports_of(QUEUE), bus)


@contextlib.asynccontextmanager
async def running(consumer: Consumer) -> AsyncIterator[None]:
    """*consumer* at its queue."""
    draining = asyncio.Event()
    task = asyncio.create_task(consumer.run(draining))
    try:
        yield
    finally:
        draining.set()
        await task


def cancelled(job_id: int) -> Message:
    return _sealed(wire.wrap(JobCancelled(job_id=job_id, attempt=1), at=AT, trace="trace-1"))


def _sealed(envelope: wire.Envelope) -> Message:
    return Message(name=envelope.name, event_id=envelope.id, body=wire.encode(envelope))


async def test_an_event_takes_effect_once_and_what_it_causes_is_told_under_its_trace(
    line: Line,
) -> None:
    message = cancelled(7)
    async with running(line.consumer):
        await line.bus.publish([message])  # confirmed: every reader has acknowledged
        await line.bus.publish([message])
    assert await line.effects() == [7]
    [row] = await line.rows("SELECT body FROM outbox")
    told = wire.decode(row["body"])
    assert (told.name, told.cause, told.trace) == ("JobFinished", message.event_id, "trace-1")
    assert line.ports.wakeups.event("fire_due").is_set()
    assert line.ports.wakeups.event("relay_outbox").is_set()


async def test_the_same_event_twice_in_one_batch_takes_effect_once(line: Line) -> None:
    envelope = wire.decode(cancelled(7).body)
    await line.consumer.apply([envelope, envelope])
    assert await line.effects() == [7]


async def test_two_replicas_with_one_event_at_once_let_it_take_effect_once(line: Line) -> None:
    envelope = wire.decode(cancelled(7).body)
    await asyncio.gather(*(line.consumer.apply([envelope]) for _ in range(4)))
    assert await line.effects() == [7]


async def test_a_handler_that_fails_is_tried_five_times_more_over_a_minute_and_then_is_dead(
    line: Line, clock: VirtualClock
) -> None:
    line.handler.failing = lambda _event: ValueError("no such thing")
    message = cancelled(7)
    async with running(line.consumer):
        await line.bus.publish([message])
    calls, retries, began = line.handler.calls, 0, clock.now()
    next_at = await line.consumer.retry_parked()
    while next_at is not None:
        clock.advance((next_at - clock.now()).total_seconds())
        next_at = await line.consumer.retry_parked()
        retries += 1
    assert line.handler.calls - calls == retries == TRIES - 1
    assert retries >= 5
    assert (clock.now() - began).total_seconds() >= 60
    [row] = await line.parked()
    assert (row["state"], row["tries"]) == ("dead", TRIES)
    assert row["error"] == "ValueError: no such thing"
    assert row["raw"] == message.body
    clock.advance(100_000)
    assert await line.consumer.retry_parked() is None
    assert line.handler.calls - calls == retries, "what is dead is left to a person"


async def test_one_event_that_cannot_be_handled_delays_only_itself(line: Line) -> None:
    line.handler.failing = lambda event: ValueError("never") if event.job_id == 13 else None
    async with running(line.consumer):
        await line.bus.publish([cancelled(number) for number in range(30)])
        await line.bus.publish([cancelled(30)])
    assert await line.effects() == [number for number in range(31) if number != 13]
    [row] = await line.parked()
    assert row["state"] == "waiting"


async def test_a_handler_that_recovers_lets_its_event_take_effect_once_and_the_row_go(
    line: Line, clock: VirtualClock
) -> None:
    line.handler.failing = lambda _event: ValueError("not yet")
    message = cancelled(7)
    async with running(line.consumer):
        await line.bus.publish([message])
    line.handler.failing = lambda _event: None
    assert await line.consumer.retry_parked() is not None, "it is not due yet"
    assert await line.effects() == []
    clock.advance(5)
    assert await line.consumer.retry_parked() is None
    assert await line.effects() == [7]
    assert await line.parked() == []
    async with running(line.consumer):
        await line.bus.publish([message])
    assert await line.effects() == [7]


async def test_an_outage_never_makes_an_event_dead(line: Line, clock: VirtualClock) -> None:
    line.handler.failing = lambda _event: ConnectionError("away")
    async with running(line.consumer):
        await line.bus.publish([cancelled(7)])
    for _ in range(2 * TRIES):
        clock.advance(10_000)
        await line.consumer.retry_parked()
    [row] = await line.parked()
    assert row["state"] == "waiting"
    assert row["tries"] > TRIES


UNREADABLE = {
    "no JSON": b"\x00\xff{",
    "no envelope": b'{"id": 1}',
    "nested without end": b'{"body":' + b"[" * 100_000,
    "an unknown name": wire.encode(
        wire.Envelope(id=wire.new_id(), name="JobEaten", at=AT, trace="t", body=Event())
    ),
    "another version": wire.encode(
        wire.Envelope(
            id=wire.new_id(), name="JobCancelled", at=AT, trace="t", body=Event(), version=2
        )
    ),
    "a body that does not fit": wire.encode(
        wire.Envelope(id=wire.new_id(), name="JobCancelled", at=AT, trace="t", body=Event())
    ),
}


@pytest.mark.parametrize("what", UNREADABLE)
async def test_what_cannot_be_read_is_dead_at_once_with_its_bytes_and_stops_nothing(
    line: Line, what: str
) -> None:
    raw = UNREADABLE[what]
    poison = Message(name="JobCancelled", event_id=f"not a uuid: {what}", body=raw)
    async with running(line.consumer):
        await line.bus.publish([cancelled(1), poison, cancelled(2)])
        await line.bus.publish([poison])
    assert await line.effects() == [1, 2]
    [row] = await line.parked()
    assert (row["state"], row["tries"], row["raw"]) == ("dead", 1, raw)
    assert row["error"].startswith("Undecodable: ")


async def test_an_unreadable_event_that_somebody_redrives_is_dead_again_at_once(
    line: Line,
) -> None:
    async with running(line.consumer):
        await line.bus.publish([Message(name="Any", event_id=wire.new_id(), body=b"nothing")])
    async with line.ports.db.transaction() as tx:
        await dead_letters.redrive_parked(tx, Which())
    await line.consumer.retry_parked()
    [row] = await line.parked()
    assert (row["state"], row["tries"]) == ("dead", 1)


async def test_an_event_of_nobody_here_is_acknowledged_and_stays_in_the_inbox(line: Line) -> None:
    other = JobFinished(job_id=1, status="DONE", finished_at=AT, attempt=1)
    await line.consumer.apply([wire.wrap(other, at=AT, trace="t")])
    assert await line.effects() == []
    assert len(await line.rows("SELECT 1 FROM inbox")) == 1


@pytest.mark.parametrize("point", ["before_commit", "committed", "acknowledged"])
async def test_killed_between_claim_and_acknowledgement_the_next_start_goes_on(
    line: Line, point: str
) -> None:
    publishing = asyncio.create_task(line.bus.publish([cancelled(7)]))
    with pytest.raises(Killed):
        await line.killed_at(f"{QUEUE}.{point}").run(asyncio.Event())
    async with running(line.consumer):
        await publishing
    assert await line.effects() == [7]


@pytest.mark.parametrize("point", ["parked", "buried"])
async def test_killed_after_parking_and_before_acknowledging_it_is_one_row(
    line: Line, point: str
) -> None:
    line.handler.failing = lambda _event: ValueError("no")
    message = cancelled(7)
    if point == "buried":
        message = Message(name=message.name, event_id=message.event_id, body=b"bytes")
    publishing = asyncio.create_task(line.bus.publish([message]))
    with pytest.raises(Killed):
        await line.killed_at(f"{QUEUE}.{point}").run(asyncio.Event())
    async with running(line.consumer):
        await publishing
    [row] = await line.parked()
    assert str(row["event_id"]) == message.event_id


async def test_killed_between_a_retrys_effect_and_the_rows_end_the_effect_comes_once(
    line: Line, clock: VirtualClock
) -> None:
    line.handler.failing = lambda _event: ValueError("not yet")
    async with running(line.consumer):
        await line.bus.publish([cancelled(7)])
    line.handler.failing = lambda _event: None
    clock.advance(5)
    with pytest.raises(Killed):
        await line.killed_at(f"{QUEUE}.retried").retry_parked()
    assert len(await line.parked()) == 1
    clock.advance(61)  # its lease
    await line.consumer.retry_parked()
    assert await line.effects() == [7]
    assert await line.parked() == []


async def test_two_sweeps_at_once_share_what_is_parked(line: Line, clock: VirtualClock) -> None:
    line.handler.failing = lambda _event: ValueError("not yet")
    async with running(line.consumer):
        await line.bus.publish([cancelled(number) for number in range(10)])
    line.handler.failing = lambda _event: None
    clock.advance(5)
    calls = line.handler.calls
    await asyncio.gather(line.consumer.retry_parked(), line.consumer.retry_parked())
    assert await line.effects() == list(range(10))
    assert line.handler.calls - calls == 10


async def test_what_was_taken_when_draining_begins_is_finished(
    line: Line, points: WatchedPoints
) -> None:
    draining = asyncio.Event()
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def slow(event: JobCancelled, tx: Transaction) -> Sequence[Event]:
        entered.set()
        await go_on.wait()
        return await line.handler(event, tx)

    consumer = dataclasses.replace(line.consumer, subscribers={JobCancelled: Subscriber(slow)})
    task = asyncio.create_task(consumer.run(draining))
    publishing = asyncio.create_task(line.bus.publish([cancelled(7)]))
    await entered.wait()
    draining.set()
    later = asyncio.create_task(line.bus.publish([cancelled(8)]))
    go_on.set()
    await task
    await publishing
    assert await line.effects() == [7], "nothing new was taken"
    later.cancel()
    await asyncio.gather(later, return_exceptions=True)
    assert points.counts[f"{QUEUE}.acknowledged"] == 1


async def test_the_trace_is_pruned_in_batches(line: Line, clock: VirtualClock) -> None:
    envelopes = [wire.decode(cancelled(number).body) for number in range(5)]
    await line.consumer.apply(envelopes)
    async with line.ports.db.connection() as conn:
        ids = [row["id"] for row in await line.rows("SELECT id FROM outbox")]
        await messaging.mark_published(conn, ids, clock.now())
        clock.advance(10)
        assert await messaging.prune(conn, clock.now(), 3)
        assert not await messaging.prune(conn, clock.now(), 3)
    assert await line.rows("SELECT 1 FROM outbox") == []
    assert await line.rows("SELECT 1 FROM inbox") == []
