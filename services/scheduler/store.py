"""All SQL of the scheduler, each statement beside the one function that runs it."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from services.scheduler.model import TRANSITIONS, Timer
from shared.consumer import Told
from shared.db import Transaction, json_text
from shared.events import JobScheduled
from shared.states import sources

# A timer that is there already came from the same event, or is the tombstone of its cancellation.
ADD_TIMERS = """
INSERT INTO timers (job_id, attempt, state, due_at, requirements, trace)
SELECT job_id, attempt, 'waiting', due_at, requirements::jsonb, trace
FROM unnest($1::bigint[], $2::integer[], $3::timestamptz[], $4::text[], $5::text[])
    AS new (job_id, attempt, due_at, requirements, trace)
ON CONFLICT DO NOTHING
"""


async def add_timers(tx: Transaction, told: Sequence[Told[JobScheduled]]) -> None:
    """Wait for each attempt's time, unless it has been cancelled."""
    await tx.conn.execute(
        ADD_TIMERS,
        [each.event.job_id for each in told],
        [each.event.attempt for each in told],
        [each.event.due_at for each in told],
        [json_text(each.event.requirements) for each in told],
        [each.trace for each in told],
    )


CANCEL_TIMER = """
INSERT INTO timers (job_id, attempt, state, settled_at)
VALUES ($1, $2, 'cancelled', $3)
ON CONFLICT (job_id, attempt) DO UPDATE SET state = 'cancelled', settled_at = $3
WHERE timers.state = ANY ($4::text[])
"""


async def cancel_timer(tx: Transaction, job_id: int, attempt: int) -> None:
    """Cancel what waits; where nothing is there yet, leave a tombstone. What has fired stays so."""
    await tx.conn.execute(CANCEL_TIMER, job_id, attempt, tx.now, sources(TRANSITIONS, "cancelled"))


# The CTE is evaluated once and locks; SKIP LOCKED lets replicas share the work without waiting.
FIRE_DUE = """
WITH due AS MATERIALIZED (
    SELECT job_id, attempt FROM timers
    WHERE state = 'waiting' AND due_at <= $1
    ORDER BY due_at LIMIT $2
    FOR UPDATE SKIP LOCKED)
UPDATE timers SET state = 'fired', settled_at = $1
FROM due
WHERE timers.job_id = due.job_id AND timers.attempt = due.attempt AND timers.state = 'waiting'
RETURNING timers.job_id, timers.attempt, timers.due_at, timers.requirements, timers.trace
"""


async def fire_due(tx: Transaction, limit: int) -> Sequence[Timer]:
    """Mark up to *limit* due timers as fired and return them, the longest due first."""
    rows = await tx.conn.fetch(FIRE_DUE, tx.now, limit)
    timers = [msgspec.convert(dict(row), Timer) for row in rows]
    return sorted(timers, key=lambda timer: (timer.due_at, timer.job_id))


NEXT_DUE = "SELECT min(due_at) FROM timers WHERE state = 'waiting'"


async def next_due(tx: Transaction) -> datetime | None:
    """When the next timer is due, or None where none waits."""
    due_at: datetime | None = await tx.conn.fetchval(NEXT_DUE)
    return due_at


PRUNE_SETTLED = """
DELETE FROM timers USING (
    SELECT job_id, attempt FROM timers WHERE settled_at < $1 ORDER BY settled_at LIMIT $2
    ) AS old
WHERE timers.job_id = old.job_id AND timers.attempt = old.attempt
"""


async def prune_settled(tx: Transaction, before: datetime, limit: int) -> bool:
    """Forget timers settled before *before*; True where there may be more."""
    result = await tx.conn.execute(PRUNE_SETTLED, before, limit)
    return int(result.removeprefix("DELETE ")) >= limit
