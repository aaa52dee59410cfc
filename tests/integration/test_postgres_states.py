"""Postgres in every state: 503s that say why, queues that wait, no exit, and recovery in seconds.

A state lasts for a moment here; what is shown is that nothing gives up during it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from operations.wiring import TOPOLOGY
from services.api.keys import store as key_store
from services.api.keys.access import make_key
from services.scheduler.config import SchedulerConfig
from services.scheduler.service import build
from shared.bus.memory import MemoryBus
from shared.bus.port import Bus, BusState, Delivery, Message, Subscription
from shared.bus.rabbitmq import RabbitMQBus, declare_topology
from shared.clock import RealClock, VirtualClock
from shared.crash_points import WatchedPoints
from shared.events.cloudevents import Envelope
from shared.events.events import InstanceRequested, JobCancelled, JobScheduled
from shared.events.requirements import Requirements
from shared.messaging import parked
from shared.messaging.inbox import DEATHS, Inbox
from shared.messaging.relay import LEASE_SECONDS
from shared.messaging.subscriber import Subscriber
from shared.postgres.errors import DatabaseUnavailable
from shared.postgres.pool import Transaction, open_database
from shared.postgres.wakeups import Wakeups
from shared.runtime.service import Ports, Service
from tests.support.api.api_world import World, message_of
from tests.support.rows.messages import as_message, events_in, wrapped
from tests.support.servers.breakable_postgres import BreakablePostgres
from tests.support.servers.postgres_states import STATES, Place
from tests.support.servers.rabbitmq_server import Brokers, fresh_vhost

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
NEEDS = Requirements(max_lifetime_seconds=3600)
QUEUE = "scheduler"
STATEMENT_SECONDS = 1.0
STATE_SECONDS = 1.5
RECOVERY_SECONDS = 15.0
TROUBLE_SECONDS = 3.0
"""Twice the bound: other tests run beside this one."""

ON_RABBITMQ = ("read-only for new sessions", "refuses logins", "has no schema", "is shut down")
LINES = [*((name, "memory") for name in STATES), *((name, "rabbitmq") for name in ON_RABBITMQ)]
JOB = {"docker_image": "alpine", "scheduled_for": "now"}


@pytest.fixture
async def place(postgres: BreakablePostgres) -> AsyncIterator[Place]:
    place = Place(postgres)
    await place.make()
    yield place
    await place.remove()


Open = Callable[..., Awaitable[Ports]]


@pytest.fixture
async def ports_at(place: Place, clock: VirtualClock, points: WatchedPoints) -> AsyncIterator[Open]:
    """Open a service's ports; its bus is its own unless one is given."""
    opened = []

    async def make(name: str, bus: Bus | None = None, *, real_time: bool = False) -> Ports:
        time = RealClock() if real_time else clock
        db = await open_database(place.dsn(name), name, time, statement_seconds=STATEMENT_SECONDS)
        opened.append(db)
        wakeups = Wakeups(db.dsn, channel=name, identity="test")
        bus = bus or MemoryBus({name: TOPOLOGY[name]})
        return Ports(db=db, bus=bus, clock=time, wakeups=wakeups, points=points)

    yield make
    for db in opened:
        await db.close()


async def until(found: Callable[[], Awaitable[object]], seconds: float = RECOVERY_SECONDS) -> None:
    """Return once *found* finds it; a failed query is repeated."""
    async with asyncio.timeout(seconds):
        while True:
            with contextlib.suppress(Exception):
                if await found():
                    return
            await asyncio.sleep(0.05)


# -- what a service says


@pytest.mark.parametrize("name", STATES)
async def test_trouble_is_named_in_time_and_ends_with_the_state(
    place: Place, ports_at: Open, name: str
) -> None:
    db = (await ports_at(QUEUE)).db
    assert await db.trouble() is None
    async with place.state(name) as state:
        with contextlib.suppress(Exception):  # as the service's own work finds it
            async with db.transaction() as tx:
                await parked.unpark(tx, wrapped(cancelled(1)).id)
                await tx.conn.execute("SELECT handled_at FROM inbox")
        async with asyncio.timeout(TROUBLE_SECONDS):
            trouble = await db.trouble()
        assert trouble is not None
        assert trouble.startswith(state.trouble)
        assert not await db.ready()
    await until(db.ready)


# -- HTTP


@pytest.mark.parametrize("name", STATES)
async def test_http_answers_503_with_the_reason_and_serves_again_within_seconds(
    place: Place, ports_at: Open, clock: VirtualClock, name: str
) -> None:
    world = World(await ports_at("api"), clock)
    agent = await world.running()
    async with place.state(name) as state:
        # The first meet connections that are ended; those who ask then hear the reason.
        for _ in range(2):
            written = await asyncio.gather(
                world.http.post("/schedule", json=JOB),
                world.http.post("/schedule", json=JOB, headers={"Idempotency-Key": "k"}),
                world.report(agent),
                world.call_back(agent, {}),
            )
            for answer in written:
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        read = await world.http.get("/list")
        ready = await world.http.get("/readyz")
        assert {message_of(answer) for answer in written} == {f"the database {state.advice}"}
        assert read.status_code == (200 if state.reads else 503)
        assert (ready.status_code, ready.headers["retry-after"]) == (503, "1")

    async def accepted() -> bool:
        return (await world.http.post("/schedule", json=JOB)).status_code == 201

    await until(accepted)
    assert (await world.call_back(agent, {})).status_code == 200
    await world.close()


async def test_with_a_read_only_database_keys_are_still_checked_and_reading_works(
    place: Place, ports_at: Open, clock: VirtualClock
) -> None:
    world = World(await ports_at("api"), clock)
    key = make_key()
    async with world.ports.db.transaction() as tx:
        await key_store.insert_key(tx, key.prefix, "reader", "read", key.hashed)
    async with place.state("read-only for new sessions"):
        headers = {"Authorization": f"Bearer {key.text}"}

        async def reads() -> bool:
            return (await world.http.get("/list", headers=headers)).status_code == 200

        await until(reads)  # the first request may meet a session that the server has ended
        unknown = await world.http.get("/list", headers={"Authorization": "Bearer djk_0_0"})
        assert unknown.status_code == 401
    await world.close()


# -- queues


class CountedDelivery:
    """A delivery whose acknowledgement is counted."""

    def __init__(self, delivery: Delivery, bus: "CountedBus") -> None:
        self.message: Message = delivery.message
        self.returned = delivery.returned
        self._delivery = delivery
        self._bus = bus

    async def ack(self) -> None:
        await self._delivery.ack()
        self._bus.acknowledged += 1


class CountedSubscription:
    """A subscription whose deliveries are counted."""

    def __init__(self, subscription: Subscription, bus: "CountedBus") -> None:
        self._subscription = subscription
        self._bus = bus

    async def take(self, limit: int) -> Sequence[Delivery]:
        taken = [CountedDelivery(each, self._bus) for each in await self._subscription.take(limit)]
        self._bus.delivered += [(each.message.id, each.returned) for each in taken]
        self._bus.taken.set()
        return taken

    async def close(self) -> None:
        await self._subscription.close()


class CountedBus:
    """A bus that counts what its reader is given and acknowledges."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.delivered: list[tuple[str, int]] = []
        """The id and the redeliveries of each delivery."""
        self.acknowledged = 0
        self.taken = asyncio.Event()

    async def publish(self, messages: Sequence[Message]) -> Mapping[str, str]:
        return await self._bus.publish(messages)

    async def subscribe(self, queue: str) -> Subscription:
        return CountedSubscription(await self._bus.subscribe(queue), self)

    async def state(self, queues: Collection[str] = ()) -> BusState:
        return await self._bus.state(queues)

    async def ready(self) -> bool:
        return await self._bus.ready()

    async def close(self) -> None:
        await self._bus.close()


@pytest.fixture
async def bus_of(brokers: Brokers) -> AsyncIterator[Callable[[str], Awaitable[Bus]]]:
    """Make a bus of the kind that is named, with the scheduler's queue."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(kind: str) -> Bus:
            if kind == "memory":
                return MemoryBus({QUEUE: TOPOLOGY[QUEUE]})
            url = stack.enter_context(fresh_vhost(brokers.best()))
            await declare_topology(url, TOPOLOGY)
            bus = RabbitMQBus(url, TOPOLOGY)
            stack.push_async_callback(bus.close)
            return bus

        yield make


def scheduled(job_id: int) -> Message:
    return as_message(
        wrapped(JobScheduled(job_id=job_id, attempt=1, due_at=LONG_AGO, requirements=NEEDS))
    )


def cancelled(job_id: int) -> JobCancelled:
    return JobCancelled(job_id=job_id, attempt=1)


@contextlib.asynccontextmanager
async def running(service: Service) -> AsyncIterator["asyncio.Task[None]"]:
    """Run *service*, all of it, until the block ends; it must not have ended before."""
    task = asyncio.create_task(service.run())
    try:
        yield task
        assert not task.done(), task
    finally:
        service.drain()
        await task


@pytest.mark.parametrize(("name", "kind"), LINES)
async def test_a_queue_waits_unacknowledged_without_redelivery_and_each_event_takes_effect_once(
    place: Place,
    ports_at: Open,
    bus_of: Callable[[str], Awaitable[Bus]],
    name: str,
    kind: str,
) -> None:
    bus = CountedBus(await bus_of(kind))
    ports = await ports_at(QUEUE, bus, real_time=True)
    messages = [scheduled(number) for number in range(1, 4)]

    async def fired() -> list[int]:
        rows = await place.rows("SELECT name, body FROM scheduler.outbox")
        bodies = [each.body for each in events_in(dict(row) for row in rows)]
        return sorted(each.job_id for each in bodies if isinstance(each, InstanceRequested))

    async def published(*jobs: int) -> bool:
        unpublished = "SELECT 1 FROM scheduler.outbox WHERE published_at IS NULL"
        return await fired() == [*jobs] and not await place.rows(unpublished)

    async with running(build(SchedulerConfig(), ports)) as service:
        await ports.bus.publish(messages[:1])
        await until(lambda: published(1))  # no lease of the relay is open
        bus.taken.clear()
        async with place.state(name):
            publishing = asyncio.create_task(ports.bus.publish(messages[1:]))
            await bus.taken.wait()
            await asyncio.wait({service}, timeout=STATE_SECONDS)
            assert bus.acknowledged == 1
        # Load can make a statement miss its short limit; what the relay had leased waits it out.
        await until(lambda: published(1, 2, 3), LEASE_SECONDS + RECOVERY_SECONDS)
        await publishing
    assert await fired() == [1, 2, 3]
    assert sorted(bus.delivered) == sorted((each.id, 0) for each in messages)
    assert bus.acknowledged == 3
    assert await place.rows("SELECT 1 FROM scheduler.parked") == []


class Recorded:
    """A handler that records the sizes of its batches, and fails as the test demands."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.error: Exception | None = None

    async def __call__(
        self, events: Sequence[Envelope[JobCancelled]], _tx: Transaction
    ) -> list[Envelope[Any]]:
        self.calls.append(len(events))
        if self.error is not None:
            raise self.error
        return []


def inbox_with(ports: Ports, handler: Recorded) -> Inbox:
    subscribers: Any = {JobCancelled: Subscriber(handler)}
    return Inbox(QUEUE, subscribers, ports.db, ports.wakeups, ports.points)


async def test_a_large_batch_that_meets_a_frozen_database_waits_for_one_time_limit_and_no_more(
    place: Place, ports_at: Open
) -> None:
    inbox = inbox_with(await ports_at(QUEUE), Recorded())
    batch = [wrapped(cancelled(number)) for number in range(1000)]
    await inbox.settle([wrapped(cancelled(0))])
    async with place.state("is frozen"):
        seconds = asyncio.get_running_loop().time
        begun = seconds()
        with pytest.raises(DatabaseUnavailable, match="does not answer"):
            await inbox.settle(batch)
        assert seconds() - begun < STATEMENT_SECONDS + 5 + 2 * TROUBLE_SECONDS


@pytest.mark.parametrize("name", ["read-only for new sessions", "refuses logins"])
async def test_no_event_is_halved_or_parked_while_the_database_is_in_trouble(
    place: Place, ports_at: Open, name: str
) -> None:
    handler = Recorded()
    inbox = inbox_with(await ports_at(QUEUE), handler)
    batch = [wrapped(cancelled(number)) for number in range(8)]
    async with place.state(name) as state:
        for _ in range(3):
            with pytest.raises(DatabaseUnavailable, match=state.trouble):
                await inbox.settle(batch)
    assert handler.calls == []
    await until(inbox.db.ready)
    await inbox.settle(batch)
    assert handler.calls == [8]


@pytest.mark.parametrize("name", ["read-only for new sessions", "has no connection for a role"])
async def test_an_outage_postpones_no_parked_event_and_counts_no_try(
    place: Place, ports_at: Open, clock: VirtualClock, name: str
) -> None:
    handler = Recorded()
    inbox = inbox_with(await ports_at(QUEUE), handler)
    envelopes = [wrapped(cancelled(number)) for number in range(3)]
    async with inbox.db.transaction() as tx:
        await parked.park(tx, [parked.failed(each, "once") for each in envelopes], tx.now)

    async def in_the_middle(events: Sequence[Envelope[JobCancelled]], _tx: Transaction) -> Any:
        raise await stack.enter_async_context(interrupted(place, name))

    for _ in range(DEATHS + 1):
        async with contextlib.AsyncExitStack() as stack:
            broken = Inbox(
                QUEUE,
                {JobCancelled: Subscriber(in_the_middle)},
                inbox.db,
                inbox.wakeups,
                inbox.points,
                inbox._retries,
            )
            with pytest.raises(DatabaseUnavailable):
                await broken.retry_parked()
        await until(inbox.db.ready)
    rows = await place.rows("SELECT tries, state, due_at FROM scheduler.parked")
    assert {(row["tries"], row["state"]) for row in rows} == {(1, "waiting")}
    assert max(row["due_at"] for row in rows) <= clock.now() + timedelta(seconds=60)
    assert await inbox.retry_parked() is None, "those that were leased are tried at once"
    assert handler.calls == [1, 1, 1]
    assert await place.rows("SELECT 1 FROM scheduler.parked") == []


@contextlib.asynccontextmanager
async def interrupted(place: Place, name: str) -> AsyncIterator[Exception]:
    """Bring the database into a state, and yield what a statement under way would raise."""
    async with place.state(name):
        yield ConnectionError("the session was ended")


async def test_after_one_lost_connection_the_others_are_replaced_before_they_are_used(
    place: Place, ports_at: Open
) -> None:
    db = (await ports_at(QUEUE)).db
    async with contextlib.AsyncExitStack() as stack:
        held = [await stack.enter_async_context(db.connection()) for _ in range(4)]
        before = {await conn.fetchval("SELECT pg_backend_pid()") for conn in held}
    with pytest.raises(Exception, match=r"terminat|clos|died"):
        async with db.connection() as conn:
            await conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    async with contextlib.AsyncExitStack() as stack:
        held = [await stack.enter_async_context(db.connection()) for _ in range(4)]
        after = {await conn.fetchval("SELECT pg_backend_pid()") for conn in held}
    assert not before & after


@pytest.mark.parametrize("name", STATES)
async def test_the_listening_connection_waits_for_the_end_of_every_state(
    place: Place, ports_at: Open, name: str
) -> None:
    wakeups = (await ports_at(QUEUE)).wakeups
    connected = wakeups.event("connected")
    async with running_wakeups(wakeups) as task:
        await asyncio.wait_for(connected.wait(), RECOVERY_SECONDS)
        async with place.state(name):
            wakeups.wake("fire_due")
            await asyncio.wait({task}, timeout=0.5)
            assert not task.done()
    assert task.cancelled()


@contextlib.asynccontextmanager
async def running_wakeups(wakeups: Wakeups) -> AsyncIterator["asyncio.Task[None]"]:
    task = asyncio.create_task(wakeups.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
