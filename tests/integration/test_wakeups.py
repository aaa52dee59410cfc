"""Wake-ups between the replicas of a service, over LISTEN and NOTIFY."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from operations.migrate import service_dsn
from shared.postgres.pool import Database, connect
from shared.postgres.wakeups import EVERYTHING, PAYLOAD_BYTES, Wakeups, notify
from tests.conftest import PASSWORDS

CHANNEL = "scheduler"


@pytest.fixture
def dsn(database_url: str) -> str:
    return service_dsn(database_url, CHANNEL, PASSWORDS[CHANNEL])


@contextlib.asynccontextmanager
async def listening(dsn: str, identity: str) -> AsyncIterator[Wakeups]:
    """Connect a replica's wake-ups: that sets every event once."""
    wakeups = Wakeups(dsn, CHANNEL, identity)
    connected = wakeups.event("connected")
    task = asyncio.create_task(wakeups.run())
    try:
        await woken(connected)
        yield wakeups
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def woken(event: asyncio.Event) -> None:
    async with asyncio.timeout(20):
        await event.wait()
    event.clear()


async def test_a_wake_up_reaches_this_process_at_once_and_its_replicas_by_name(dsn: str) -> None:
    async with listening(dsn, "one") as one, listening(dsn, "two") as two:
        mine, theirs = one.event("fire_due"), two.event("fire_due")
        other = two.event("prune")
        one.wake("fire_due")
        assert mine.is_set()
        mine.clear()
        await woken(theirs)
        assert not other.is_set()
        two.wake("prune")
        await woken(one.event("prune"))
        assert not mine.is_set(), "no replica wakes itself"


async def test_a_burst_of_wake_ups_travels_as_one_notify(dsn: str) -> None:
    conn = await connect(dsn)
    payloads: list[str] = []
    end = asyncio.Event()

    def receive(_conn: object, _pid: int, _channel: str, payload: object) -> None:
        payloads.append(str(payload))
        if "end" in str(payload):
            end.set()

    await conn.add_listener(CHANNEL, receive)
    try:
        async with listening(dsn, "one") as one:
            for _ in range(100):
                one.wake("fire_due", "relay_outbox")
            one.wake("end")
            await woken(end)
    finally:
        await conn.close()
    assert payloads == ["one end fire_due relay_outbox"]


async def test_a_connection_that_dies_is_replaced_and_every_event_is_set(
    dsn: str, database_url: str
) -> None:
    async with listening(dsn, "one") as one:
        event = one.event("fire_due")
        admin = await connect(database_url)
        try:
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE usename = $1 AND datname = current_database()",
                CHANNEL,
            )
        finally:
            await admin.close()
        await woken(event)  # something may have been missed
        async with listening(dsn, "two") as two:
            two.wake("fire_due")
            await woken(event)


async def test_more_names_than_a_notify_carries_mean_every_name(
    dsn: str, service_db: Callable[[str], Awaitable[Database]]
) -> None:
    db = await service_db(CHANNEL)
    async with listening(dsn, "one") as one:
        event = one.event("fire_due")
        names = [f"sweep_{number}" for number in range(PAYLOAD_BYTES)]
        async with db.connection() as conn:
            await notify(conn, CHANNEL, "two", names)
        await woken(event)


async def test_a_detail_goes_to_the_topics_listeners_in_all_replicas(dsn: str) -> None:
    async with listening(dsn, "one") as one, listening(dsn, "two") as two:
        mine, theirs = asyncio.Queue[str](), asyncio.Queue[str]()
        one.listen("job", mine.put_nowait)
        two.listen("job", theirs.put_nowait)
        one.wake("job:7", "other:8")
        assert mine.get_nowait() == "7"
        async with asyncio.timeout(20):
            assert await theirs.get() == "7"
        assert mine.empty()
        assert theirs.empty()
        two.wake_all()
        assert theirs.get_nowait() == EVERYTHING


async def test_more_details_than_a_few_notifies_carry_wake_all_of_their_topic(
    dsn: str, service_db: Callable[[str], Awaitable[Database]]
) -> None:
    db = await service_db(CHANNEL)
    async with listening(dsn, "one") as one, db.connection() as conn:
        woken_details = asyncio.Queue[str]()
        one.listen("job", woken_details.put_nowait)
        event = one.event("fire_due")
        few = {f"job:{number}" for number in range(2000)}  # in several NOTIFYs
        await notify(conn, CHANNEL, "two", few)
        async with asyncio.timeout(20):
            assert {f"job:{await woken_details.get()}" for _ in few} == few
        many = {f"job:{number}" for number in range(PAYLOAD_BYTES)}
        await notify(conn, CHANNEL, "two", {*many, "fire_due"})
        async with asyncio.timeout(20):
            assert await woken_details.get() == EVERYTHING
        await woken(event)
        assert woken_details.empty()
