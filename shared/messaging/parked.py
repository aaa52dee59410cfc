"""Parked events: rows of events that failed, which are retried and finally dead.

`shared.messaging.inbox` writes and retries them; `shared.messaging.dead_letters` is for operators.
The table is the same in each service's schema (`sql/`).
"""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from shared.events import cloudevents
from shared.events.cloudevents import Envelope
from shared.postgres.pool import Connection, Transaction

RETRY = "retry_parked"
"""The sweep that tries them again."""

REPORT = "report_dead_letters"
"""The sweep to wake after a change of them."""

PARK = """
INSERT INTO parked (event_id, name, body, state, tries, error, parked_at, due_at)
SELECT event_id, name, body, $4, 1, error, $6, $7
FROM unnest($1::uuid[], $2::text[], $3::bytea[], $5::text[]) AS new (event_id, name, body, error)
ON CONFLICT DO NOTHING
"""


class FailedEvent(Struct, frozen=True):
    """An event to park: its id, its name, the bytes of a batch of it alone, and the error."""

    event_id: uuid.UUID
    name: str
    body: bytes
    error: str


def failed(envelope: Envelope[Any], error: str) -> FailedEvent:
    """Make the parked form of *envelope*, whose handler failed."""
    return FailedEvent(envelope.id, envelope.name, cloudevents.encode([envelope]), error)


async def park(tx: Transaction, what: Sequence[FailedEvent], due_at: datetime) -> None:
    """Park events, to be retried at *due_at*."""
    await _keep(tx, what, "waiting", due_at)


async def bury(tx: Transaction, what: Sequence[FailedEvent]) -> None:
    """Park unreadable events, dead at once."""
    await _keep(tx, what, "dead", tx.now)


async def _keep(tx: Transaction, what: Sequence[FailedEvent], state: str, due_at: datetime) -> None:
    await tx.conn.execute(
        PARK,
        [each.event_id for each in what],
        [_storable(each.name) for each in what],
        [each.body for each in what],
        state,
        [_storable(each.error) for each in what],
        tx.now,
        due_at,
    )
    tx.wakes.add(REPORT)


def _storable(text: str) -> str:
    """Replace what Postgres' text cannot hold; *text* may quote foreign bytes."""
    return text.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


LEASE_PARKED = """
UPDATE parked SET due_at = $2
WHERE event_id = ANY (ARRAY(
    SELECT event_id FROM parked WHERE state = 'waiting' AND due_at <= $1
    ORDER BY due_at LIMIT (SELECT $3::integer)
    FOR UPDATE SKIP LOCKED))
RETURNING event_id, name, body, tries, unfinished
"""


class Parked(Struct, frozen=True):
    """A due parked event; *unfinished* of its tries had no outcome."""

    event_id: uuid.UUID
    name: str
    body: bytes
    tries: int
    unfinished: int


async def lease_parked(
    conn: Connection, *, now: datetime, until: datetime, limit: int
) -> list[Parked]:
    """Lease due parked events; one that is not settled by *until* is due again."""
    rows = await conn.fetch(LEASE_PARKED, now, until, limit)
    return [Parked(**dict(row)) for row in rows]


BEGIN_TRY = "UPDATE parked SET unfinished = unfinished + 1 WHERE event_id = $1"


async def begin_try(conn: Connection, event_id: uuid.UUID) -> None:
    """Record that a try begins, in case its reader crashes on it."""
    await conn.execute(BEGIN_TRY, event_id)


POSTPONE_PARKED = """
UPDATE parked SET tries = tries + 1, unfinished = 0, error = $2, due_at = $3, state = $4
WHERE event_id = $1
"""


async def postpone_parked(
    tx: Transaction, event_id: uuid.UUID, error: str, due_at: datetime, *, dead: bool
) -> None:
    """Record another failure: retry it later, or make it dead."""
    await tx.conn.execute(
        POSTPONE_PARKED, event_id, _storable(error), due_at, "dead" if dead else "waiting"
    )
    tx.wakes.add(REPORT)


UNPARK = "DELETE FROM parked WHERE event_id = $1"


async def unpark(tx: Transaction, event_id: uuid.UUID) -> None:
    """Delete an event that has taken effect."""
    await tx.conn.execute(UNPARK, event_id)
    tx.wakes.add(REPORT)


NEXT_PARKED = "SELECT min(due_at) FROM parked WHERE state = 'waiting'"


async def next_parked(conn: Connection) -> datetime | None:
    """Return when the next parked event is due, or None if none waits."""
    due_at: datetime | None = await conn.fetchval(NEXT_PARKED)
    return due_at


PRUNE_DEAD = """
DELETE FROM parked WHERE event_id = ANY (ARRAY(
    SELECT event_id FROM parked WHERE state = 'dead' AND parked_at < $1
    ORDER BY parked_at LIMIT (SELECT $2::integer)))
"""


async def prune_dead(conn: Connection, before: datetime, limit: int) -> int:
    """Delete up to *limit* dead events that were parked before *before*; return how many."""
    return int((await conn.execute(PRUNE_DEAD, before, limit)).removeprefix("DELETE "))
