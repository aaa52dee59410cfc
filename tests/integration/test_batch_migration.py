"""Tables of a deployment that is upgraded to batches, and the statements that still run on them."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from shared.messaging import parked
from shared.messaging import store as messages
from shared.postgres.migrations import MESSAGING_SQL
from tests.support.rows.messages import AT, events_in
from tests.support.rows.old_schema import old_schema

OLD = (
    b'{"id":"3f2b7c9e-8a55-4d0e-9a53-3b1f3d3c0a11","name":"JobCancelled","at":'
    b'"2026-01-01T00:00:00Z","trace":"0af76519-16cd-43dd-8448-eb211c80319c",'
    b'"body":{"job_id":7,"attempt":1},"version":1}'
)
PUBLISH = (
    "INSERT INTO outbox (event_id, name, body, created_at) VALUES ($1, 'JobCancelled', $2, $3)"
)
PARK = """
INSERT INTO parked (event_id, name, raw, state, tries, error, parked_at, due_at)
VALUES ($1, 'JobCancelled', $2, 'waiting', 1, 'ValueError: once', $3, $3)
"""
"""The statements of the release before."""


@pytest.fixture
async def upgraded(database_url: str, tmp_path: Path) -> AsyncIterator[Any]:
    """Open a connection to a schema that had one event on its way and one parked before."""
    async with old_schema(database_url, tmp_path, MESSAGING_SQL, "0001_*.sql") as old:
        await old.conn.execute(PUBLISH, uuid.uuid4(), OLD, AT)
        await old.conn.execute(PARK, uuid.uuid4(), OLD, AT)
        await old.migrate("*.sql")
        yield old.conn


async def test_what_was_on_its_way_and_what_was_parked_is_still_read(upgraded: Any) -> None:
    leased = await messages.lease_outbox(upgraded, now=AT, until=AT, token=uuid.uuid4(), limit=10)
    due = await parked.lease_parked(upgraded, now=AT, until=AT, limit=10)
    rows = [{"name": each.message.name, "body": each.message.body} for each in leased]
    rows += [{"name": each.name, "body": each.body} for each in due]
    assert [each.body.job_id for each in events_in(rows)] == [7, 7]


async def test_a_service_of_the_release_before_cannot_keep_a_batch_as_dead(upgraded: Any) -> None:
    with pytest.raises(asyncpg.UndefinedColumnError):
        await upgraded.execute(PARK, uuid.uuid4(), b"[]", AT)
    with pytest.raises(asyncpg.UndefinedColumnError):
        await upgraded.execute(PUBLISH, uuid.uuid4(), OLD, AT)
