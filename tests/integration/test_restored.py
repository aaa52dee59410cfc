"""A restored database, before the services start on it."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import msgspec

from operations.migrate import SERVICES
from operations.resend import JOB_IDS_LEFT_OUT, Settled, settle, told
from shared.events.cloudevents import new_id
from shared.postgres.pool import Connection, connect
from shared.runtime.service import Ports

NOW = datetime(2026, 1, 1, tzinfo=UTC)

TELL = """
INSERT INTO {}.outbox (batch_id, name, body, created_at, published_at)
VALUES ($1, $2, $3, $4, $4) RETURNING id
"""
UNSENT = "SELECT id FROM {}.outbox WHERE published_at IS NULL ORDER BY id"


async def tell(conn: Connection, publisher: str, name: str, at: datetime) -> tuple[int, str]:
    """Add a published batch of two events; return its row's id and that of one event.

    The other one is heard by everybody.
    """
    heard, event = new_id(), new_id()
    for service in SERVICES:
        await hear(conn, service.NAME, heard)
    body = msgspec.json.encode([{"id": heard}, {"id": event}])
    return int(await conn.fetchval(TELL.format(publisher), new_id(), name, body, at)), event


async def hear(conn: Connection, reader: str, event: str) -> None:
    """Record that it has taken effect there."""
    sql = f"INSERT INTO {reader}.inbox (event_id, name, handled_at) VALUES ($1, '', $2)"  # noqa: S608
    await conn.execute(sql, event, NOW)


async def unsent(conn: Connection, publisher: str) -> list[int]:
    return [row["id"] for row in await conn.fetch(UNSENT.format(publisher))]


async def test_what_was_told_and_not_heard_by_every_reader_is_sent_again(database_url: str) -> None:
    conn = await connect(database_url)
    heard, event = await tell(conn, "launcher", "InstanceLaunched", NOW)
    await hear(conn, "reaper", event)
    await hear(conn, "api", event)
    half, event = await tell(conn, "launcher", "InstanceLaunched", NOW)
    await hear(conn, "api", event)
    lost, _ = await tell(conn, "api", "JobScheduled", NOW)
    nobodys, _ = await tell(conn, "api", "JobStarted", NOW)
    assert (await settle(database_url)).resent == 2
    assert await unsent(conn, "launcher") == [half]
    assert await unsent(conn, "api") == [lost]
    assert heard
    assert nobodys, "an event without a reader of ours was heard by all of them"
    await conn.close()


async def test_what_the_last_release_told_is_sent_again_too(database_url: str) -> None:
    conn = await connect(database_url)
    heard, lost = new_id(), new_id()
    await hear(conn, "scheduler", heard)
    rows = {
        event: await conn.fetchval(
            TELL.format("api"), event, "JobScheduled", b'{"id":"%s"}' % event.encode(), NOW
        )
        for event in (heard, lost)
    }
    assert (await settle(database_url)).resent == 1
    assert await unsent(conn, "api") == [rows[lost]]
    await conn.close()


async def test_what_is_so_old_that_inboxes_forget_it_is_left_alone(database_url: str) -> None:
    conn = await connect(database_url)
    await tell(conn, "api", "JobScheduled", NOW - timedelta(hours=23))
    young, _ = await tell(conn, "api", "JobScheduled", NOW)
    await settle(database_url)
    assert await unsent(conn, "api") == [young]
    await conn.close()


async def test_no_id_of_a_job_that_is_lost_is_given_again(
    database_url: str, ports_of: Callable[[str], Awaitable[Ports]]
) -> None:
    assert await settle(database_url) == Settled(0, None), "no job, no id to leave out"
    conn = await connect(database_url)
    await conn.execute("SELECT nextval(pg_get_serial_sequence('api.jobs', 'id'))")
    settled = await settle(database_url)
    assert settled.ids_after == 1 + JOB_IDS_LEFT_OUT
    following = await conn.fetchval("SELECT nextval(pg_get_serial_sequence('api.jobs', 'id'))")
    assert following == 2 + JOB_IDS_LEFT_OUT
    assert told(settled).endswith(f"new jobs have ids from {following} on")
    await conn.close()
