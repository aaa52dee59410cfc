"""Outbox, inbox and parked events: the rows behind "no event is lost or acted on twice".

Each statement stands beside the one function that runs it. The tables are the same in each
service's schema (`sql/0001_messaging.sql`).
"""

import uuid
from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from shared import wire
from shared.bus.port import Message
from shared.db import Connection, Transaction
from shared.events import Event
from shared.wire import Envelope

APPEND_OUTBOX = """
INSERT INTO outbox (event_id, name, body, created_at)
SELECT event_id, name, body, $4
FROM unnest($1::uuid[], $2::text[], $3::bytea[]) AS new (event_id, name, body)
"""


async def append_outbox(tx: Transaction, envelopes: Sequence[Envelope]) -> None:
    """Record facts to be published once this transaction has committed."""
    if not envelopes:
        return
    await tx.conn.execute(
        APPEND_OUTBOX,
        [each.id for each in envelopes],
        [each.name for each in envelopes],
        [wire.encode(each) for each in envelopes],
        tx.now,
    )


async def tell(tx: Transaction, events: Sequence[Event], *, trace: str | None = None) -> None:
    """Append *events* that no other event caused: a request or a sweep did."""
    trace = trace or wire.new_id()
    await append_outbox(tx, [wire.wrap(event, at=tx.now, trace=trace) for event in events])


# For a statement whose loss costs a repeat and nothing else: its commit does not wait for the disk.
# Postgres loses it only when the server itself dies, and then the event is published again.
_WITHOUT_WAITING = """
WITH without_waiting AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
"""

# ANY(ARRAY(…)) rather than UPDATE … FROM: twice as fast, and the lock is taken in the order of the
# ids.
LEASE_OUTBOX = f"""
{_WITHOUT_WAITING}
UPDATE outbox SET lease_until = $2, lease_token = $3 FROM without_waiting
WHERE id = ANY (ARRAY(
    SELECT id FROM outbox
    WHERE published_at IS NULL AND (lease_until IS NULL OR lease_until <= $1)
    ORDER BY id LIMIT $4
    FOR UPDATE SKIP LOCKED))
RETURNING id, name, event_id, body
"""  # noqa: S608 - our own text


class Outgoing(Struct, frozen=True):
    """One leased outbox row."""

    id: int
    message: Message


async def lease_outbox(
    conn: Connection, *, now: datetime, until: datetime, token: uuid.UUID, limit: int
) -> list[Outgoing]:
    """Take up to *limit* unsent rows for this relay alone until *until*, oldest first."""
    rows = await conn.fetch(LEASE_OUTBOX, now, until, token, limit)
    return [
        Outgoing(
            row["id"], Message(name=row["name"], event_id=str(row["event_id"]), body=row["body"])
        )
        for row in sorted(rows, key=lambda row: row["id"])
    ]


# Not guarded by the lease's token: the broker's confirmation is true whoever holds the row by now.
MARK_PUBLISHED = f"""
{_WITHOUT_WAITING}
UPDATE outbox SET published_at = $2 FROM without_waiting WHERE id = ANY ($1::bigint[])
"""  # noqa: S608 - our own text


async def mark_published(conn: Connection, ids: Sequence[int], now: datetime) -> None:
    """The broker has confirmed these rows."""
    await conn.execute(MARK_PUBLISHED, ids, now)


RELEASE_OUTBOX = """
UPDATE outbox SET lease_until = NULL WHERE lease_token = $1 AND published_at IS NULL
"""


async def release_outbox(conn: Connection, token: uuid.UUID) -> None:
    """Give back what was leased and not published, so that the next try need not wait."""
    await conn.execute(RELEASE_OUTBOX, token)


CLAIM_INBOX = """
INSERT INTO inbox (event_id, name, handled_at)
SELECT event_id, name, $3 FROM unnest($1::uuid[], $2::text[]) AS new (event_id, name)
ON CONFLICT DO NOTHING
RETURNING event_id
"""


async def claim_inbox(tx: Transaction, envelopes: Sequence[Envelope]) -> set[str]:
    """The ids among *envelopes* that have not taken effect here before; from now on they have.

    Of two transactions with one event, the second waits here until the first is decided.
    """
    rows = await tx.conn.fetch(
        CLAIM_INBOX,
        [each.id for each in envelopes],
        [each.name for each in envelopes],
        tx.now,
    )
    return {str(row["event_id"]) for row in rows}


PARK = """
INSERT INTO parked (event_id, name, raw, state, tries, error, parked_at, due_at)
VALUES ($1, $2, $3, $4, 1, $5, $6, $7)
ON CONFLICT DO NOTHING
"""


async def park(tx: Transaction, message: Message, error: str, due_at: datetime) -> None:
    """Keep an event whose handler failed; it is tried again at *due_at*."""
    name, reason = _storable(message.name), _storable(error)
    await tx.conn.execute(
        PARK, message.event_id, name, message.body, "waiting", reason, tx.now, due_at
    )


async def bury(tx: Transaction, message: Message, error: str) -> None:
    """Keep what cannot be read, raw, as dead at once."""
    name, reason = _storable(message.name), _storable(error)
    await tx.conn.execute(
        PARK, _burial_id(message), name, message.body, "dead", reason, tx.now, tx.now
    )


def _storable(text: str) -> str:
    """*text* without what Postgres' text cannot hold; it may quote whatever somebody sent."""
    return text.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _burial_id(message: Message) -> uuid.UUID:
    """The event's own id, or one made of its bytes, so that a repeat is the same row."""
    try:
        return uuid.UUID(message.event_id)
    except ValueError:
        return uuid.uuid5(uuid.NAMESPACE_OID, message.body.hex())


LEASE_PARKED = """
UPDATE parked SET due_at = $2
WHERE event_id = ANY (ARRAY(
    SELECT event_id FROM parked WHERE state = 'waiting' AND due_at <= $1
    ORDER BY due_at LIMIT $3
    FOR UPDATE SKIP LOCKED))
RETURNING event_id, name, raw, tries
"""


class Parked(Struct, frozen=True):
    """A parked event that is due."""

    message: Message
    tries: int


async def lease_parked(
    conn: Connection, *, now: datetime, until: datetime, limit: int
) -> list[Parked]:
    """Take due parked events; one that is not settled by *until* becomes due again."""
    rows = await conn.fetch(LEASE_PARKED, now, until, limit)
    return [
        Parked(
            Message(name=row["name"], event_id=str(row["event_id"]), body=row["raw"]), row["tries"]
        )
        for row in rows
    ]


POSTPONE_PARKED = """
UPDATE parked SET tries = tries + 1, error = $2, due_at = $3, state = $4 WHERE event_id = $1
"""


async def postpone_parked(
    tx: Transaction, event_id: str, error: str, due_at: datetime, *, dead: bool
) -> None:
    """It failed again: try later, or never again by itself."""
    await tx.conn.execute(
        POSTPONE_PARKED, event_id, _storable(error), due_at, "dead" if dead else "waiting"
    )


UNPARK = "DELETE FROM parked WHERE event_id = $1"


async def unpark(tx: Transaction, event_id: str) -> None:
    """It has taken effect."""
    await tx.conn.execute(UNPARK, event_id)


NEXT_PARKED = "SELECT min(due_at) FROM parked WHERE state = 'waiting'"


async def next_parked(conn: Connection) -> datetime | None:
    """When the next parked event is due, or None where nothing waits."""
    due_at: datetime | None = await conn.fetchval(NEXT_PARKED)
    return due_at


PRUNE_OUTBOX = """
DELETE FROM outbox WHERE id = ANY (ARRAY(
    SELECT id FROM outbox WHERE published_at < $1 ORDER BY published_at LIMIT $2))
"""
PRUNE_INBOX = """
DELETE FROM inbox WHERE event_id = ANY (ARRAY(
    SELECT event_id FROM inbox WHERE handled_at < $1 ORDER BY handled_at LIMIT $2))
"""


async def prune(conn: Connection, before: datetime, limit: int) -> bool:
    """Forget what was sent and handled before *before*; True where there may be more.

    Must leave the inbox rows for longer than any event can be on its way.
    """
    results = [await conn.execute(sql, before, limit) for sql in (PRUNE_OUTBOX, PRUNE_INBOX)]
    return any(int(result.removeprefix("DELETE ")) == limit for result in results)
