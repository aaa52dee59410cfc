"""The outbox relay: committed events are published, whatever happens in between."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime

import pytest
import structlog

from shared.bus.port import BusState, BusUnavailable, Message, Subscription
from shared.clock import VirtualClock
from shared.crash_points import NoPoints
from shared.events.events import JobFinished
from shared.messaging import store as messaging
from shared.messaging.relay import BATCH, LEASE_SECONDS, Relay
from shared.postgres.pool import Database
from tests.support.compute.stage import Crash, CrashPoint

AT = datetime(2026, 1, 1, tzinfo=UTC)


class RecordingBus:
    """A bus that records published messages, and answers by script."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.available = True
        self.refused: set[str] = set()
        self.gate: asyncio.Event | None = None

    @property
    def published(self) -> list[str]:
        return [each for batch in self.batches for each in batch]

    async def publish(self, messages: Sequence[Message]) -> Mapping[str, str]:
        if not self.available:
            raise BusUnavailable("away")
        self.batches.append([each.id for each in messages])
        if self.gate is not None:
            await self.gate.wait()
        return {each.id: "no queue takes it" for each in messages if each.id in self.refused}

    async def subscribe(self, queue: str) -> Subscription:
        raise NotImplementedError

    async def state(self, queues: Collection[str] = ()) -> BusState:
        return BusState(trouble=None if self.available else "away")

    async def ready(self) -> bool:
        return self.available

    async def close(self) -> None:
        pass


@pytest.fixture
async def db(service_db: Callable[[str], Awaitable[Database]]) -> Database:
    return await service_db("reaper")


@pytest.fixture
def recording() -> RecordingBus:
    return RecordingBus()


@pytest.fixture
def relay(db: Database, recording: RecordingBus) -> Relay:
    return Relay(db=db, bus=recording, points=NoPoints())


async def append(db: Database, count: int) -> list[str]:
    """Put events into the outbox, in one commit; return their ids in order."""
    events = [
        JobFinished(job_id=number, status="DONE", finished_at=AT, attempt=1)
        for number in range(count)
    ]
    async with db.transaction() as tx:
        for event in events:
            await messaging.publish(tx, [event])
    async with db.connection() as conn:
        rows = await conn.fetch("SELECT batch_id FROM outbox ORDER BY id DESC LIMIT $1", count)
    return [str(row["batch_id"]) for row in reversed(rows)]


async def unsent(db: Database) -> int:
    async with db.connection() as conn:
        count: int = await conn.fetchval("SELECT count(*) FROM outbox WHERE published_at IS NULL")
    return count


async def test_what_is_committed_is_published_in_order_and_marked(
    relay: Relay, recording: RecordingBus, db: Database
) -> None:
    ids = await append(db, 5)
    assert await relay.relay_outbox() is None
    assert recording.batches == [ids]
    assert await unsent(db) == 0
    assert await relay.relay_outbox() is None
    assert recording.published == ids


async def test_what_is_rolled_back_is_never_published(
    relay: Relay, recording: RecordingBus, db: Database
) -> None:
    event = JobFinished(job_id=1, status="DONE", finished_at=AT, attempt=1)
    with contextlib.suppress(Crash):
        async with db.transaction() as tx:
            await messaging.publish(tx, [event])
            raise Crash
    await relay.relay_outbox()
    assert recording.published == []


async def test_more_than_a_batch_is_due_again_at_once(
    relay: Relay, recording: RecordingBus, db: Database, clock: VirtualClock
) -> None:
    ids = await append(db, BATCH + 3)
    assert await relay.relay_outbox() == clock.now()
    assert await relay.relay_outbox() is None
    assert recording.published == ids


async def test_killed_between_publish_and_mark_it_publishes_again_when_the_lease_is_over(
    relay: Relay, recording: RecordingBus, db: Database, clock: VirtualClock
) -> None:
    ids = await append(db, 3)
    killed = dataclasses.replace(relay, points=CrashPoint("relay.published"))
    with pytest.raises(Crash):
        await killed.relay_outbox()
    await relay.relay_outbox()
    assert recording.batches == [ids], "leased still"
    clock.advance(LEASE_SECONDS)
    await relay.relay_outbox()
    assert recording.batches == [ids, ids]
    assert await unsent(db) == 0


async def test_killed_after_the_mark_it_publishes_nothing_again(
    relay: Relay, recording: RecordingBus, db: Database, clock: VirtualClock
) -> None:
    ids = await append(db, 3)
    killed = dataclasses.replace(relay, points=CrashPoint("relay.marked"))
    with pytest.raises(Crash):
        await killed.relay_outbox()
    clock.advance(2 * LEASE_SECONDS)
    await relay.relay_outbox()
    assert recording.batches == [ids]


async def test_two_relays_at_once_share_the_outbox(
    relay: Relay, recording: RecordingBus, db: Database
) -> None:
    ids = await append(db, BATCH + 10)
    recording.gate = asyncio.Event()
    first = asyncio.create_task(relay.relay_outbox())
    second = asyncio.create_task(relay.relay_outbox())
    async with asyncio.timeout(20):
        while len(recording.published) < len(ids):
            await unsent(db)  # a turn for both
    recording.gate.set()
    await asyncio.gather(first, second)
    assert sorted(recording.published) == sorted(ids)


async def test_what_the_bus_does_not_confirm_is_given_back_at_once(
    relay: Relay, recording: RecordingBus, db: Database
) -> None:
    ids = await append(db, 3)
    recording.available = False
    with pytest.raises(BusUnavailable, match="3 messages not confirmed"):
        await relay.relay_outbox()
    assert await unsent(db) == 3
    recording.available = True
    await relay.relay_outbox()
    assert recording.batches == [ids]


async def test_messages_that_no_queue_takes_hold_up_no_other_and_are_tried_ever_more_seldom(
    relay: Relay, recording: RecordingBus, db: Database, clock: VirtualClock
) -> None:
    lost = await append(db, BATCH + 10)  # more than a batch, and the oldest of all
    recording.refused = set(lost)
    with structlog.testing.capture_logs() as lines:
        while await relay.relay_outbox() is not None:
            pass
    good = await append(db, 3)
    await relay.relay_outbox()
    assert recording.published[-3:] == good
    assert await unsent(db) == len(lost)
    said = [each for each in lines if each["log_level"] == "error"]
    assert [each["messages"] for each in said] == [BATCH, 10]
    assert {each["because"] for each in said} == {"no queue takes it"}
    before = len(recording.published)
    for _ in range(120):
        clock.advance(1)
        while await relay.relay_outbox() is not None:
            pass
    tries = (len(recording.published) - before) / len(lost)
    assert 5 <= tries <= 8  # after 1, 2, 4, 8, 16, 32, 60 s, each up to a quarter sooner
    recording.refused = set()
    clock.advance(60)
    while await relay.relay_outbox() is not None:
        pass
    assert await unsent(db) == 0


async def test_a_row_that_commits_later_with_a_smaller_number_is_not_skipped(
    relay: Relay, recording: RecordingBus, db: Database
) -> None:
    event = JobFinished(job_id=1, status="DONE", finished_at=AT, attempt=1)
    async with db.transaction() as slow:
        await messaging.publish(slow, [event])
        [later] = await append(db, 1)
        await relay.relay_outbox()
        assert recording.published == [later]
    await relay.relay_outbox()
    assert len(recording.published) == 2
    assert await unsent(db) == 0


async def test_batches_are_compressed_with_lz4_where_the_server_was_built_with_it(
    db: Database,
) -> None:
    async with db.connection() as conn:
        has_it = await conn.fetchval(
            "SELECT 'lz4' = ANY (enumvals) FROM pg_settings "
            "WHERE name = 'default_toast_compression'"
        )
        chosen = await conn.fetchval(
            "SELECT attcompression::text FROM pg_attribute "
            "WHERE attrelid = 'outbox'::regclass AND attname = 'body'"
        )
    assert chosen == ("l" if has_it else "")
