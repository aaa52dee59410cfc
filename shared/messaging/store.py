"""SQL over outbox and inbox, by which no event is lost or acted on twice.

One outbox row is one message, a batch of events; the inbox has one row per event. The tables are
the same in each service's schema (`sql/`).
"""

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from shared.bus.port import Message
from shared.events import cloudevents
from shared.events.cloudevents import Envelope
from shared.events.events import Event
from shared.postgres.pool import Connection, Transaction

RELAY = "relay_outbox"
"""The sweep to wake after a write to the outbox."""

APPEND_OUTBOX = """
INSERT INTO outbox (batch_id, name, body, created_at)
SELECT batch_id, name, body, $4
FROM unnest($1::uuid[], $2::text[], $3::bytea[]) AS new (batch_id, name, body)
"""


async def append_outbox(tx: Transaction, envelopes: Sequence[Envelope[Any]]) -> None:
    """Record events, to be published once this transaction has committed."""
    if envelopes:
        await tx.conn.execute(APPEND_OUTBOX, *columns(pack(envelopes)), tx.now)
        tx.wakes.add(RELAY)


PACK_EVENTS = 250
"""Events in one message, at most: their cost exceeds that of the message by far."""

PACK_BYTES = 1024 * 1024
"""Bytes in one message, at most, unless one event is longer: far below a broker's limit."""


def pack(envelopes: Sequence[Envelope[Any]]) -> list[Message]:
    """Pack *envelopes* into messages: batches of one name each, in the order given."""
    by_name: dict[str, list[Envelope[Any]]] = {}
    for each in envelopes:
        by_name.setdefault(each.name, []).append(each)
    return [
        message
        for name, group in by_name.items()
        for start in range(0, len(group), PACK_EVENTS)
        for message in _within_bytes(name, group[start : start + PACK_EVENTS])
    ]


def _within_bytes(name: str, group: Sequence[Envelope[Any]]) -> list[Message]:
    body = cloudevents.encode(group)
    if len(body) <= PACK_BYTES or len(group) == 1:
        return [Message(name=name, id=cloudevents.new_id(), body=body)]
    half = len(group) // 2
    return [*_within_bytes(name, group[:half]), *_within_bytes(name, group[half:])]


def columns(messages: Sequence[Message]) -> tuple[list[str], list[str], list[bytes]]:
    """Return ids, names and bodies, the arguments of statements that write the outbox."""
    return (
        [each.id for each in messages],
        [each.name for each in messages],
        [each.body for each in messages],
    )


async def publish(tx: Transaction, events: Sequence[Event], *, trace: str | None = None) -> None:
    """Append *events* that a request or a sweep caused, not another event."""
    trace = trace or cloudevents.new_trace()
    await append_outbox(
        tx, [cloudevents.wrap(each, source=tx.source, at=tx.now, trace=trace) for each in events]
    )


def follow(cause: Envelope[Any], event: Event, tx: Transaction) -> Envelope[Any]:
    """Wrap *event*, which follows from that in *cause*."""
    return cloudevents.wrap(event, source=tx.source, at=tx.now, trace=cause.trace, cause=cause.id)


# For a statement whose loss costs only a repeat: its commit does not wait for the disk. Postgres
# loses it only if the server crashes, and then the event is published again.
_WITHOUT_WAITING = """
WITH without_waiting AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
"""

# ANY(ARRAY(…)) rather than UPDATE … FROM: twice as fast, and it locks in the order of the ids.
LEASE_OUTBOX = f"""
{_WITHOUT_WAITING}
UPDATE outbox SET lease_until = $2, lease_token = $3 FROM without_waiting
WHERE id = ANY (ARRAY(
    SELECT id FROM outbox
    WHERE published_at IS NULL AND (lease_until IS NULL OR lease_until <= $1)
    ORDER BY id LIMIT (SELECT $4::integer)
    FOR UPDATE SKIP LOCKED))
RETURNING id, name, batch_id, body, tries
"""  # noqa: S608 - our own text


class Outgoing(Struct, frozen=True):
    """One leased outbox row; *tries*: how often the broker answered and did not confirm it."""

    id: int
    message: Message
    tries: int


async def lease_outbox(
    conn: Connection, *, now: datetime, until: datetime, token: uuid.UUID, limit: int
) -> list[Outgoing]:
    """Lease up to *limit* unpublished rows until *until*, oldest first."""
    rows = await conn.fetch(LEASE_OUTBOX, now, until, token, limit)
    return [
        Outgoing(
            row["id"],
            Message(name=row["name"], id=str(row["batch_id"]), body=row["body"]),
            row["tries"],
        )
        for row in sorted(rows, key=lambda row: row["id"])
    ]


# Not guarded by the lease's token: the broker's confirmation is true without the lease.
MARK_PUBLISHED = f"""
{_WITHOUT_WAITING}
UPDATE outbox SET published_at = $2 FROM without_waiting WHERE id = ANY ($1::bigint[])
"""  # noqa: S608 - our own text


async def mark_published(conn: Connection, ids: Sequence[int], now: datetime) -> None:
    """Mark these rows as published: the broker has confirmed them."""
    await conn.execute(MARK_PUBLISHED, ids, now)


# By the ids: by the token, Postgres would search all that is unpublished.
RELEASE_OUTBOX = """
UPDATE outbox SET lease_until = NULL
WHERE id = ANY ($1::bigint[]) AND lease_token = $2 AND published_at IS NULL
"""


async def release_outbox(conn: Connection, ids: Sequence[int], token: uuid.UUID) -> None:
    """Release leased rows that were not published, so that the next try need not wait."""
    await conn.execute(RELEASE_OUTBOX, ids, token)


# By an array and not a join, for which Postgres might walk all that is unpublished [tried].
POSTPONE_OUTBOX = """
UPDATE outbox
SET lease_until = ($2::timestamptz[])[array_position($1::bigint[], id)], tries = tries + 1
WHERE id = ANY ($1::bigint[]) AND lease_token = $3 AND published_at IS NULL
"""


async def postpone_outbox(
    conn: Connection, due_at: Mapping[int, datetime], token: uuid.UUID
) -> None:
    """Try these leased rows again at the given times: the broker did not confirm them."""
    await conn.execute(POSTPONE_OUTBOX, list(due_at), list(due_at.values()), token)


CLAIM_INBOX = """
INSERT INTO inbox (event_id, name, handled_at)
SELECT event_id, name, $3 FROM unnest($1::uuid[], $2::text[]) AS new (event_id, name)
ON CONFLICT DO NOTHING
RETURNING event_id
"""


async def claim_inbox(tx: Transaction, envelopes: Sequence[Envelope[Any]]) -> set[uuid.UUID]:
    """Add *envelopes* to the inbox; return the ids of those that were not in it.

    Of two transactions with one event, the second waits here until the first has ended.
    """
    rows = await tx.conn.fetch(
        CLAIM_INBOX,
        [each.id for each in envelopes],
        [each.name for each in envelopes],
        tx.now,
    )
    return {row["event_id"] for row in rows}


PRUNE_OUTBOX = """
DELETE FROM outbox WHERE id = ANY (ARRAY(
    SELECT id FROM outbox WHERE published_at < $1 ORDER BY published_at LIMIT $2))
"""
PRUNE_INBOX = """
DELETE FROM inbox WHERE event_id = ANY (ARRAY(
    SELECT event_id FROM inbox WHERE handled_at < $1 ORDER BY handled_at LIMIT $2))
"""


async def prune(conn: Connection, before: datetime, limit: int) -> bool:
    """Delete what was published or handled before *before*; return True if there may be more.

    Inbox rows must be kept longer than any event can be on its way.
    """
    results = [await conn.execute(sql, before, limit) for sql in (PRUNE_OUTBOX, PRUNE_INBOX)]
    return any(int(result.removeprefix("DELETE ")) == limit for result in results)
