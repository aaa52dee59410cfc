"""A restored database, before the services start on it."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from services.restored import JOB_IDS_LEFT_OUT, Settled, settle, told
from shared.db import Connection, connect
from shared.runtime import Ports
from shared.wire import new_id

NOW = datetime(2026, 1, 1, tzinfo=UTC)

TELL = """
INSERT INTO {}.outbox (event_id, name, body, created_at, published_at)
VALUES ($1, $2, '', $3, $3) RETURNING id
"""
UNSENT = "SELECT id FROM {}.outbox WHERE published_at IS NULL ORDER BY id"


async def tell(conn: Connection, publisher: str, name: str, at: datetime) -> tuple[int, str]:
    """An event that was published; returns its row's and its own id."""
    event = new_id()
    return int(await conn.fetchval(TELL.format(publisher), event, name, at)), event


async def hear(conn: Connection, reader: str, event: str) -> None:
    """It has taken effect there."""
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
