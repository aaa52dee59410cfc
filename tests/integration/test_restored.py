"""A restored database, before the services start on it."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import msgspec

from operations.resend import JOB_IDS_LEFT_OUT, Settled, settle, summary
from operations.wiring import SERVICES
from shared.events.cloudevents import new_id
from shared.postgres.pool import Connection, connect
from shared.runtime.service import Ports

NOW = datetime(2026, 1, 1, tzinfo=UTC)

PUBLISH = """
INSERT INTO {}.outbox (batch_id, name, body, created_at, published_at)
VALUES ($1, $2, $3, $4, $4) RETURNING id
"""
UNSENT = "SELECT id FROM {}.outbox WHERE published_at IS NULL ORDER BY id"


async def publish(conn: Connection, publisher: str, name: str, at: datetime) -> tuple[int, str]:
    """Add a published batch of two events; return its row's id and that of one event.

    The other one is consumed by all services.
    """
    consumed, event = new_id(), new_id()
    for service in SERVICES:
        await consume(conn, service.NAME, consumed)
    body = msgspec.json.encode([{"id": consumed}, {"id": event}])
    return int(await conn.fetchval(PUBLISH.format(publisher), new_id(), name, body, at)), event


async def consume(conn: Connection, reader: str, event: str) -> None:
    """Record that it has taken effect there."""
    sql = f"INSERT INTO {reader}.inbox (event_id, name, handled_at) VALUES ($1, '', $2)"  # noqa: S608
    await conn.execute(sql, event, NOW)


async def unsent(conn: Connection, publisher: str) -> list[int]:
    return [row["id"] for row in await conn.fetch(UNSENT.format(publisher))]


async def test_what_was_published_and_not_received_by_every_reader_is_sent_again(
    database_url: str,
) -> None:
    conn = await connect(database_url)
    consumed, event = await publish(conn, "launcher", "InstanceLaunched", NOW)
    await consume(conn, "reaper", event)
    await consume(conn, "api", event)
    half, event = await publish(conn, "launcher", "InstanceLaunched", NOW)
    await consume(conn, "api", event)
    lost, _ = await publish(conn, "api", "JobScheduled", NOW)
    unread, _ = await publish(conn, "api", "JobStarted", NOW)
    assert (await settle(database_url)).resent == 2
    assert await unsent(conn, "launcher") == [half]
    assert await unsent(conn, "api") == [lost]
    assert consumed
    assert unread, "an event without a reader of ours was consumed by all of them"
    await conn.close()


async def test_an_event_of_the_last_release_is_sent_again_too(database_url: str) -> None:
    conn = await connect(database_url)
    consumed, lost = new_id(), new_id()
    await consume(conn, "scheduler", consumed)
    rows = {
        event: await conn.fetchval(
            PUBLISH.format("api"), event, "JobScheduled", b'{"id":"%s"}' % event.encode(), NOW
        )
        for event in (consumed, lost)
    }
    assert (await settle(database_url)).resent == 1
    assert await unsent(conn, "api") == [rows[lost]]
    await conn.close()


async def test_what_is_so_old_that_inboxes_forget_it_is_left_alone(database_url: str) -> None:
    conn = await connect(database_url)
    await publish(conn, "api", "JobScheduled", NOW - timedelta(hours=23))
    young, _ = await publish(conn, "api", "JobScheduled", NOW)
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
    assert summary(settled).endswith(f"new jobs have ids from {following} on")
    await conn.close()
