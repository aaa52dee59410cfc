"""All SQL of the scheduler, each statement beside the one function that runs it."""

from collections.abc import Collection, Sequence
from datetime import datetime

import msgspec

from services.scheduler.model import TRANSITIONS, Timer
from shared.events.cloudevents import Envelope
from shared.events.events import JobScheduled
from shared.postgres.pool import Transaction, json_text
from shared.states import sources

# An existing timer came from the same event, or from one with the same content, or is the tombstone
# of its cancellation.
ADD_TIMERS = """
INSERT INTO timers (job_id, attempt, state, due_at, requirements, trace)
SELECT job_id, attempt, 'waiting', due_at, requirements::jsonb, trace
FROM unnest($1::bigint[], $2::integer[], $3::timestamptz[], $4::text[], $5::text[])
    AS new (job_id, attempt, due_at, requirements, trace)
ON CONFLICT DO NOTHING
"""


async def add_timers(tx: Transaction, scheduled: Sequence[Envelope[JobScheduled]]) -> bool:
    """Add a timer for each attempt, unless it has one; return whether each was added."""
    result = await tx.conn.execute(
        ADD_TIMERS,
        [each.body.job_id for each in scheduled],
        [each.body.attempt for each in scheduled],
        [each.body.due_at for each in scheduled],
        [json_text(each.body.requirements) for each in scheduled],
        [each.trace for each in scheduled],
    )
    return int(result.removeprefix("INSERT 0 ")) == len(scheduled)


# By the key alone: with a condition on the state, Postgres might look among all of that state.
FIND_TIMERS = """
SELECT timers.job_id, timers.attempt, state, due_at, requirements, trace
FROM timers JOIN unnest($1::bigint[], $2::integer[]) AS own (job_id, attempt)
    ON timers.job_id = own.job_id AND timers.attempt = own.attempt
"""


async def fired_among(tx: Transaction, attempts: Collection[tuple[int, int]]) -> Sequence[Timer]:
    """Return the timers of those of *attempts* (job and number) that have fired."""
    rows = await tx.conn.fetch(
        FIND_TIMERS, [job_id for job_id, _ in attempts], [number for _, number in attempts]
    )
    return [msgspec.convert(dict(row), Timer) for row in rows if row["state"] == "fired"]


# In the order of the keys, so that two batches never deadlock.
CANCEL_TIMERS = """
INSERT INTO timers (job_id, attempt, state, settled_at)
SELECT job_id, attempt, 'cancelled', $3
FROM unnest($1::bigint[], $2::integer[]) AS new (job_id, attempt)
ORDER BY job_id, attempt
ON CONFLICT (job_id, attempt) DO UPDATE SET state = 'cancelled', settled_at = $3
WHERE timers.state = ANY ($4::text[])
"""


async def cancel_timers(tx: Transaction, attempts: Collection[tuple[int, int]]) -> None:
    """Cancel the waiting timers of *attempts* (job and number, each once).

    An attempt without a timer gets a tombstone. Fired timers stay fired.
    """
    await tx.conn.execute(
        CANCEL_TIMERS,
        [job_id for job_id, _ in attempts],
        [number for _, number in attempts],
        tx.now,
        sources(TRANSITIONS, "cancelled"),
    )


# SKIP LOCKED lets replicas share the work without waiting. Locked rows are updated by their ctid:
# by key and state, Postgres might search the index of all that waits. A row that another
# transaction has changed between our snapshot and our lock has a new ctid: it stays as it is, and
# the next pass takes it.
FIRE_DUE = """
UPDATE timers SET state = 'fired', settled_at = $1
WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM timers
    WHERE state = 'waiting' AND due_at <= $1
    ORDER BY due_at LIMIT (SELECT $2::integer)
    FOR UPDATE SKIP LOCKED))
RETURNING job_id, attempt, due_at, requirements, trace
"""


async def fire_due(tx: Transaction, limit: int) -> Sequence[Timer]:
    """Mark up to *limit* due timers as fired; return them, the longest due first."""
    rows = await tx.conn.fetch(FIRE_DUE, tx.now, limit)
    timers = [msgspec.convert(dict(row), Timer) for row in rows]
    return sorted(timers, key=lambda timer: (timer.due_at, timer.job_id))


NEXT_DUE = "SELECT min(due_at) FROM timers WHERE state = 'waiting'"


async def next_due(tx: Transaction) -> datetime | None:
    """Return when the next timer is due, or None if none waits."""
    due_at: datetime | None = await tx.conn.fetchval(NEXT_DUE)
    return due_at


PRUNE_SETTLED = """
DELETE FROM timers WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM timers WHERE settled_at < $1 ORDER BY settled_at LIMIT $2
    FOR UPDATE SKIP LOCKED))
"""


async def prune_settled(tx: Transaction, before: datetime, limit: int) -> bool:
    """Delete timers settled before *before*; return True if there may be more."""
    result = await tx.conn.execute(PRUNE_SETTLED, before, limit)
    return int(result.removeprefix("DELETE ")) >= limit
