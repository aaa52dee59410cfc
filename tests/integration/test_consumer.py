"""An event's way between `take` and `ack`: on a real Postgres, with the memory bus.

The queue is the scheduler's, since a consumer has to be some service's; the handlers are the
tests'.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
import structlog

from shared.bus.memory import MemoryBus
from shared.bus.port import SUSPECT, BusUnavailable, Message
from shared.clock import VirtualClock
from shared.crash_points import WatchedPoints
from shared.events import cloudevents
from shared.events.cloudevents import Envelope
from shared.events.events import Event, JobCancelled, JobFinished
from shared.messaging import dead_letters, parked
from shared.messaging import store as messaging
from shared.messaging.consumer import Consumer
from shared.messaging.dead_letters import LetterFilter
from shared.messaging.inbox import DEATHS, TRIES, Inbox
from shared.messaging.retention import DeadLetterSweep
from shared.messaging.store import follow
from shared.messaging.subscriber import Handler, Subscriber
from shared.postgres.pool import Database, DatabaseUnavailable, Transaction, connect
from shared.runtime.service import Ports
from tests.support.rows.messages import TRACE, as_message, events_in, wrapped
from tests.support.waiting import until_it_holds

QUEUE = "scheduler"
AT = datetime(2026, 1, 1, tzinfo=UTC)


class Killed(BaseException):
    """The process ends here: no `except Exception` sees it."""


class KillPoint:
    """Points that kill the process at one of them."""

    def __init__(self, point: str) -> None:
        self._point = point

    def reached(self, point: str) -> None:
        if point == self._point:
            raise Killed(point)


class Handled:
    """A handler that records each effect, and fails as the test demands."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        """How many events each call had."""
        self.failing: Callable[[JobCancelled], BaseException | None] = lambda _event: None

    async def __call__(
        self, events: Sequence[Envelope[JobCancelled]], tx: Transaction
    ) -> list[Envelope[Any]]:
        self.calls.append(len(events))
        for each in events:
            error = self.failing(each.body)
            if error is not None:
                raise error
        return [
            follow(
                each,
                JobFinished(
                    job_id=each.body.job_id,
                    status="CANCELLED",
                    finished_at=tx.now,
                    attempt=each.body.attempt,
                ),
                tx,
            )
            for each in events
        ]


class Line:
    """A consumer with its queue, database and handler."""

    def __init__(self, ports: Ports, bus: MemoryBus) -> None:
        self.ports = ports
        self.bus = bus
        self.handler = Handled()
        self.inbox = self.with_handler(self.handler)
        self.consumer = Consumer(self.inbox, bus)

    def with_handler(self, handler: Handler) -> Inbox:
        subscribers: dict[type[Event], Subscriber] = {
            JobCancelled: Subscriber(handler, wakes=("fire_due",))
        }
        return Inbox(QUEUE, subscribers, self.ports.db, self.ports.wakeups, self.ports.points)

    def killed_at(self, point: str) -> Consumer:
        """Return the same consumer in a process that ends at *point*."""
        inbox = dataclasses.replace(self.inbox, points=KillPoint(point))
        return Consumer(inbox, self.bus)

    async def rows(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        async with self.ports.db.connection() as conn:
            return [dict(row) for row in await conn.fetch(sql, *values)]

    async def effects(self) -> list[int]:
        """Return the jobs that the handler has taken effect on, one entry per effect."""
        published = [
            each.body for each in events_in(await self.rows("SELECT name, body FROM outbox"))
        ]
        return sorted(each.job_id for each in published if isinstance(each, JobFinished))

    async def parked(self) -> list[dict[str, Any]]:
        return await self.rows("SELECT * FROM parked ORDER BY parked_at, event_id")


@pytest.fixture
def bus() -> MemoryBus:
    """Make a bus with this queue alone: a publish is confirmed when it has acknowledged."""
    return MemoryBus({QUEUE: ("JobCancelled", "Any")})


@pytest.fixture
async def line(ports_of: Callable[[str], Awaitable[Ports]], bus: MemoryBus) -> Line:
    return Line(await ports_of(QUEUE), bus)


@contextlib.asynccontextmanager
async def running(consumer: Consumer) -> AsyncIterator[None]:
    """Run *consumer* at its queue."""
    draining = asyncio.Event()
    task = asyncio.create_task(consumer.run(draining))
    try:
        yield
    finally:
        draining.set()
        await task


def fact(job_id: int) -> Envelope[Any]:
    return wrapped(JobCancelled(job_id=job_id, attempt=1))


def cancelled(job_id: int) -> Message:
    return as_message(fact(job_id))


def batch(*job_ids: int) -> Message:
    """Make one message with the cancellations of all of these."""
    [message] = messaging.pack([fact(job_id) for job_id in job_ids])
    return message


async def test_an_event_takes_effect_once_and_its_effects_are_published_under_its_trace(
    line: Line,
) -> None:
    message = cancelled(7)
    async with running(line.consumer):
        await line.bus.publish([message])  # confirmed: every reader has acknowledged
        await line.bus.publish([message])
    assert await line.effects() == [7]
    [published] = events_in(await line.rows("SELECT name, body FROM outbox"))
    assert (published.name, str(published.cause), published.trace) == (
        "JobFinished",
        message.id,
        TRACE,
    )
    assert line.ports.wakeups.event("fire_due").is_set()
    assert line.ports.wakeups.event("relay_outbox").is_set()


async def test_the_same_event_twice_in_one_batch_takes_effect_once(line: Line) -> None:
    envelope = fact(7)
    await line.inbox.apply([envelope, envelope])
    assert await line.effects() == [7]


async def test_two_replicas_with_one_event_at_once_let_it_take_effect_once(line: Line) -> None:
    envelope = fact(7)
    await asyncio.gather(*(line.inbox.apply([envelope]) for _ in range(4)))
    assert await line.effects() == [7]


async def test_a_handler_that_fails_is_tried_five_times_more_over_a_minute_and_then_is_dead(
    line: Line, clock: VirtualClock
) -> None:
    line.handler.failing = lambda _event: ValueError("no such thing")
    message = cancelled(7)
    async with running(line.consumer):
        await line.bus.publish([message])
    calls, retries, began = len(line.handler.calls), 0, clock.now()
    next_at = await line.inbox.retry_parked()
    while next_at is not None:
        clock.advance((next_at - clock.now()).total_seconds())
        next_at = await line.inbox.retry_parked()
        retries += 1
    assert len(line.handler.calls) - calls == retries == TRIES - 1
    assert retries >= 5
    assert (clock.now() - began).total_seconds() >= 60
    [row] = await line.parked()
    assert (row["state"], row["tries"]) == ("dead", TRIES)
    assert row["error"] == "ValueError: no such thing"
    assert row["body"] == message.body
    clock.advance(100_000)
    assert await line.inbox.retry_parked() is None
    assert len(line.handler.calls) - calls == retries, "what is dead is left to an operator"


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
    assert await line.inbox.retry_parked() is not None, "it is not due yet"
    assert await line.effects() == []
    clock.advance(5)
    assert await line.inbox.retry_parked() is None
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
        await line.inbox.retry_parked()
    [row] = await line.parked()
    assert row["state"] == "waiting"
    assert row["tries"] > TRIES


async def test_an_event_is_not_parked_for_the_lost_connections_of_a_whole_pool(line: Line) -> None:
    lost = [ConnectionError("reset"), asyncpg.AdminShutdownError("cut")] * 3
    line.handler.failing = lambda _event: lost.pop() if lost else None
    async with running(line.consumer):
        await line.bus.publish([cancelled(7)])
    assert await line.effects() == [7]
    assert await line.parked() == []


async def test_an_event_that_meets_its_second_deadlock_is_parked_and_delays_no_other(
    line: Line,
) -> None:
    deadlock = asyncpg.DeadlockDetectedError("deadlock detected")
    line.handler.failing = lambda event: deadlock if event.job_id == 7 else None
    async with running(line.consumer):
        await line.bus.publish([cancelled(7)])
        await line.bus.publish([cancelled(8)])
    assert line.handler.calls == [1, 1, 1]
    assert await line.effects() == [8]
    [row] = await line.parked()
    assert row["error"] == "DeadlockDetectedError: deadlock detected"


async def test_an_event_that_can_be_neither_handled_nor_parked_waits_and_ends_nothing(
    line: Line, database_url: str
) -> None:
    line.handler.failing = lambda _event: ValueError("never")
    admin = await connect(database_url)
    await admin.execute("ALTER TABLE scheduler.parked ADD CONSTRAINT full_up CHECK (tries > 99)")
    async with running(line.consumer):
        publishing = asyncio.create_task(line.bus.publish([cancelled(7)]))
        await asyncio.wait({publishing}, timeout=0.5)
        assert not publishing.done()
        await admin.execute("ALTER TABLE scheduler.parked DROP CONSTRAINT full_up")
        await publishing
    await admin.close()
    [row] = await line.parked()
    assert row["state"] == "waiting"


def renamed(message: Message, old: bytes, new: bytes) -> bytes:
    assert old in message.body
    return message.body.replace(old, new)


UNREADABLE = {
    "no JSON": b"\x00\xff[",
    "no batch": b'{"id": 1}',
    "nested without end": b'[{"data":' + b"[" * 100_000,
    "an unknown name": renamed(cancelled(9), b'"JobCancelled"', b'"JobEaten"'),
    "another version": renamed(cancelled(9), b'"1.0"', b'"2.0"'),
    "data that does not fit": renamed(cancelled(9), b'"attempt":', b'"try":'),
}


@pytest.mark.parametrize("what", UNREADABLE)
async def test_what_cannot_be_read_is_dead_at_once_with_its_bytes_and_stops_nothing(
    line: Line, what: str
) -> None:
    raw = UNREADABLE[what]
    poison = Message(name="JobCancelled", id=f"not a uuid: {what}", body=raw)
    async with running(line.consumer):
        await line.bus.publish([cancelled(1), poison, cancelled(2)])
        await line.bus.publish([poison])
    assert await line.effects() == [1, 2]
    [row] = await line.parked()
    assert (row["state"], row["tries"]) == ("dead", 1)
    assert row["body"] in (raw, raw[1:-1]), "the message's bytes, or the element's"
    assert row["error"].startswith("Undecodable: ")


async def test_an_unreadable_event_that_is_redriven_is_dead_again_at_once(
    line: Line,
) -> None:
    async with running(line.consumer):
        await line.bus.publish([Message(name="Any", id=cloudevents.new_id(), body=b"nothing")])
    async with line.ports.db.transaction() as tx:
        await dead_letters.redrive_parked(tx, LetterFilter())
    await line.inbox.retry_parked()
    [row] = await line.parked()
    assert (row["state"], row["tries"]) == ("dead", 1)


async def test_an_event_without_a_handler_is_acknowledged_and_stays_in_the_inbox(
    line: Line,
) -> None:
    other = JobFinished(job_id=1, status="DONE", finished_at=AT, attempt=1)
    await line.inbox.apply([wrapped(other)])
    assert await line.effects() == []
    assert len(await line.rows("SELECT 1 FROM inbox")) == 1


# -- batches: whoever fails or kills does so alone


@pytest.mark.parametrize("place", range(16))
async def test_poison_at_any_place_of_a_batch_is_found_by_halves_and_costs_no_other(
    line: Line, place: int
) -> None:
    line.handler.failing = lambda event: ValueError("never") if event.job_id == place else None
    async with running(line.consumer):
        await line.bus.publish([batch(*range(16))])
    assert await line.effects() == [number for number in range(16) if number != place]
    [row] = await line.parked()
    [kept] = events_in([row])
    assert (kept.body.job_id, kept.id) == (place, row["event_id"])
    assert len(line.handler.calls) == 1 + 2 * 4, "twice for each halving, and not sixteen times"


async def test_a_batch_of_poison_is_parked_whole(line: Line) -> None:
    line.handler.failing = lambda _event: ValueError("never")
    async with running(line.consumer):
        await line.bus.publish([batch(*range(7))])
    assert sorted(each.body.job_id for each in events_in(await line.parked())) == list(range(7))
    assert await line.rows("SELECT 1 FROM inbox") == [], "none has taken effect"


async def test_an_element_that_cannot_be_read_does_not_take_its_batch_along(line: Line) -> None:
    whole = batch(1, 2, 3)
    broken = damaged(whole, b'"job_id":2', b'"job_id":"two"')
    async with running(line.consumer):
        await line.bus.publish([broken])
        await line.bus.publish([broken])
    assert await line.effects() == [1, 3]
    [row] = await line.parked()
    assert row["state"] == "dead"
    assert row["event_id"] == cloudevents.decode(whole.name, whole.body).envelopes[1].id


def damaged(message: Message, old: bytes, new: bytes) -> Message:
    return Message(name=message.name, id=message.id, body=renamed(message, old, new))


class Deaths:
    """Consumers that die of job 13, one after the other."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.count = 0

        def failing(event: JobCancelled) -> BaseException | None:
            return Killed("by 13") if event.job_id == 13 else None

        line.handler.failing = failing

    async def until(self, done: "asyncio.Task[Mapping[str, str]]") -> None:
        """Start consumer after consumer until *done*."""
        while not done.done():
            draining = asyncio.Event()
            task = asyncio.create_task(self.line.consumer.run(draining))
            await asyncio.wait({task, done}, return_when=asyncio.FIRST_COMPLETED)
            draining.set()
            try:
                await task
            except Killed:
                self.count += 1


async def test_a_batch_that_kills_its_readers_is_parked_and_only_the_killer_dies(
    line: Line, clock: VirtualClock
) -> None:
    deaths = Deaths(line)
    await deaths.until(asyncio.create_task(line.bus.publish([batch(*range(250))])))
    assert deaths.count == SUSPECT + 1
    assert await line.effects() == []
    assert {row["state"] for row in await line.parked()} == {"waiting"}
    for _ in range(20):
        clock.advance(600)
        with contextlib.suppress(Killed):
            await line.inbox.retry_parked()
    assert await line.effects() == [number for number in range(250) if number != 13]
    [row] = await line.parked()
    assert (row["state"], row["unfinished"]) == ("dead", 0)
    assert row["error"] == f"its reader died on it {DEATHS} times"


async def test_others_taken_with_a_batch_that_kills_take_effect(line: Line) -> None:
    deaths = Deaths(line)
    messages = [batch(1, 2), batch(12, 13, 14), batch(21, 22)]
    await deaths.until(asyncio.create_task(line.bus.publish(messages)))
    waiting = {each.body.job_id for each in events_in(await line.parked())}
    assert {12, 13, 14} <= waiting
    assert set(await line.effects()) | waiting == {1, 2, 12, 13, 14, 21, 22}
    assert all(row["state"] == "waiting" for row in await line.parked())


async def test_an_operator_who_redrives_what_killed_gives_it_all_its_tries_again(
    line: Line, clock: VirtualClock
) -> None:
    envelope = fact(13)
    async with line.ports.db.transaction() as tx:
        await parked.park(tx, [parked.failed(envelope, "once")], tx.now)
    Deaths(line)
    for _ in range(DEATHS):
        with pytest.raises(Killed):
            await line.inbox.retry_parked()
        clock.advance(600)
    await line.inbox.retry_parked()
    [row] = await line.parked()
    assert row["state"] == "dead"
    async with line.ports.db.transaction() as tx:
        await dead_letters.redrive_parked(tx, LetterFilter())
    line.handler.failing = lambda _event: None
    assert await line.inbox.retry_parked() is None
    assert await line.effects() == [13]


async def test_what_the_last_release_left_in_the_queue_takes_effect(line: Line) -> None:
    body = (
        b'{"id":"3f2b7c9e-8a55-4d0e-9a53-3b1f3d3c0a11","name":"JobCancelled","at":'
        b'"2026-01-01T00:00:00Z","trace":"t","body":{"job_id":7,"attempt":1},"version":1}'
    )
    message = Message(name="JobCancelled", id="3f2b7c9e-8a55-4d0e-9a53-3b1f3d3c0a11", body=body)
    async with running(line.consumer):
        await line.bus.publish([message])
        await line.bus.publish([message])
    assert await line.effects() == [7]


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
        message = Message(name=message.name, id=message.id, body=b"bytes")
    publishing = asyncio.create_task(line.bus.publish([message]))
    with pytest.raises(Killed):
        await line.killed_at(f"{QUEUE}.{point}").run(asyncio.Event())
    async with running(line.consumer):
        await publishing
    [row] = await line.parked()
    assert str(row["event_id"]) == message.id


async def test_killed_between_a_retrys_effect_and_the_rows_end_the_effect_comes_once(
    line: Line, clock: VirtualClock
) -> None:
    line.handler.failing = lambda _event: ValueError("not yet")
    async with running(line.consumer):
        await line.bus.publish([cancelled(7)])
    line.handler.failing = lambda _event: None
    clock.advance(5)
    with pytest.raises(Killed):
        await line.killed_at(f"{QUEUE}.retried").inbox.retry_parked()
    assert len(await line.parked()) == 1
    clock.advance(61)  # its lease
    await line.inbox.retry_parked()
    assert await line.effects() == [7]
    assert await line.parked() == []


async def test_two_sweeps_at_once_share_what_is_parked(line: Line, clock: VirtualClock) -> None:
    line.handler.failing = lambda _event: ValueError("not yet")
    async with running(line.consumer):
        await line.bus.publish([cancelled(number) for number in range(10)])
    line.handler.failing = lambda _event: None
    clock.advance(5)
    calls = len(line.handler.calls)
    await asyncio.gather(line.inbox.retry_parked(), line.inbox.retry_parked())
    assert await line.effects() == list(range(10))
    assert len(line.handler.calls) - calls == 10


async def test_what_was_taken_when_draining_begins_is_finished(
    line: Line, points: WatchedPoints
) -> None:
    draining = asyncio.Event()
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def slow(events: Sequence[Envelope[Any]], tx: Transaction) -> list[Envelope[Any]]:
        entered.set()
        await go_on.wait()
        return await line.handler(events, tx)

    consumer = Consumer(line.with_handler(slow), line.bus)
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
    for number in range(5):
        await line.inbox.apply([fact(number)])
    async with line.ports.db.connection() as conn:
        ids = [row["id"] for row in await line.rows("SELECT id FROM outbox")]
        await messaging.mark_published(conn, ids, clock.now())
        clock.advance(10)
        assert await messaging.prune(conn, clock.now(), 3)
        assert not await messaging.prune(conn, clock.now(), 3)
    assert await line.rows("SELECT 1 FROM outbox") == []
    assert await line.rows("SELECT 1 FROM inbox") == []


class Away(Database):
    """A database that is away until `back` is set; *known*: and says so."""

    def __init__(self, db: Database, *, known: bool) -> None:
        self.__dict__ |= db.__dict__
        self.back = asyncio.Event()
        self.known = known

    async def trouble(self) -> str | None:
        return "is away" if self.known and not self.back.is_set() else None

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        if not self.back.is_set():
            raise DatabaseUnavailable("is away")
        async with super().transaction() as tx:
            yield tx


async def done(what: object) -> object:
    return what


async def test_nothing_is_taken_while_the_database_is_away(line: Line) -> None:
    db = Away(line.ports.db, known=True)
    consumer = Consumer(dataclasses.replace(line.inbox, db=db), line.bus)
    draining = asyncio.Event()
    with structlog.testing.capture_logs() as lines:
        running = asyncio.create_task(consumer.run(draining))
        publishing = asyncio.create_task(line.bus.publish([batch(1)]))
        await until_it_holds(lambda: done(lines))
    assert "nothing is taken while the database is away" in lines[0]["error"]
    assert (await line.bus.state([QUEUE])).readers == {QUEUE: 0}
    db.back.set()
    await publishing
    draining.set()
    await running
    assert await line.effects() == [1]


async def test_what_is_held_for_too_long_goes_back_to_the_queue(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.messaging.consumer.HOLD_SECONDS", 0.0)
    db = Away(line.ports.db, known=False)
    inbox = dataclasses.replace(line.inbox, db=db)
    publishing = asyncio.create_task(line.bus.publish([batch(1)]))
    with pytest.raises(BusUnavailable, match="given back after 0 s: the database is away"):
        await Consumer(inbox, line.bus)._consume(asyncio.Event(), asyncio.Event())
    [again] = await (await line.bus.subscribe(QUEUE)).take(10)
    assert again.returned == 1
    await again.ack()
    await publishing


async def test_dead_letters_are_removed_after_the_setting_s_days_and_what_waits_is_not(
    line: Line, clock: VirtualClock
) -> None:
    line.handler.failing = lambda event: ValueError("no") if event.job_id < 3 else None
    await line.inbox.settle([wrapped(JobCancelled(job_id=number, attempt=1)) for number in (1, 2)])
    async with line.ports.db.connection() as conn:
        await conn.execute(
            "UPDATE parked SET state = 'dead'"
            " WHERE event_id = (SELECT min(event_id::text)::uuid FROM parked)"
        )
    sweep = DeadLetterSweep(line.ports.db, timedelta(days=30))
    clock.advance(30 * 86_400)
    assert await sweep.prune_dead() is None
    assert len(await line.parked()) == 2
    clock.advance(1)
    await sweep.prune_dead()
    assert [row["state"] for row in await line.parked()] == ["waiting"]
