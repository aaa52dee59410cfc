"""SQL over instances and ended attempts, each statement beside the one function that runs it."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from services.reaper.model import Recorded, Terminated, Watched
from shared.events.cloudevents import Envelope
from shared.events.events import AttemptEnded, InstanceLaunched
from shared.postgres.pool import Transaction, json_or_null

# An existing instance was adopted as an orphan: it is being ended, and stays so.
ADD_INSTANCES = """
INSERT INTO instances (instance_id, job_id, attempt, launch_token, trace, state, market,
    hourly_price_usd, launched_at, dies_by, other_prices)
SELECT instance_id, job_id, attempt, launch_token, trace, 'running', market, hourly_price_usd,
    launched_at, dies_by, other_prices::jsonb
FROM unnest($1::text[], $2::bigint[], $3::integer[], $4::text[], $5::text[], $6::text[],
    $7::double precision[], $8::timestamptz[], $9::timestamptz[], $10::text[])
    AS new (instance_id, job_id, attempt, launch_token, trace, market, hourly_price_usd,
        launched_at, dies_by, other_prices)
ON CONFLICT DO NOTHING
"""


async def add_instances(tx: Transaction, launched: Sequence[Envelope[InstanceLaunched]]) -> None:
    """Add these instances, running."""
    events = [each.body for each in launched]
    await tx.conn.execute(
        ADD_INSTANCES,
        [each.instance_id for each in events],
        [each.job_id for each in events],
        [each.attempt for each in events],
        [each.launch_token for each in events],
        [each.trace for each in launched],
        [each.market for each in events],
        [each.hourly_price_usd for each in events],
        [each.launched_at for each in events],
        [each.dies_by for each in events],
        [json_or_null(each.other_prices) for each in events],
    )


ADD_ENDED_ATTEMPTS = """
INSERT INTO ended_attempts (job_id, attempt, cause, ended_at, terminate_after, boot_failed)
SELECT job_id, attempt, cause, ended_at, terminate_after, boot_failed
FROM unnest($1::bigint[], $2::integer[], $3::text[], $4::timestamptz[], $5::timestamptz[],
        $6::boolean[])
    AS new (job_id, attempt, cause, ended_at, terminate_after, boot_failed)
ON CONFLICT DO NOTHING
RETURNING job_id, attempt
"""


async def add_ended_attempts(
    tx: Transaction, events: Sequence[AttemptEnded]
) -> set[tuple[int, int]]:
    """Record that these attempts need their instances no more; return those known before."""
    rows = await tx.conn.fetch(
        ADD_ENDED_ATTEMPTS,
        [each.job_id for each in events],
        [each.attempt for each in events],
        [each.cause for each in events],
        [each.ended_at for each in events],
        [each.terminate_after for each in events],
        [each.boot_failed for each in events],
    )
    new = {(row["job_id"], row["attempt"]) for row in rows}
    return {(each.job_id, each.attempt) for each in events} - new


# In the order of the ids, as `LOCK_LIVING` locks them. Neither ending nor terminated means running:
# with a condition on the state, here and below, Postgres might look among all that run.
END_INSTANCES_OF = """
WITH found AS MATERIALIZED (
    SELECT instances.instance_id, ended.cause, ended.terminate_after, ended.boot_failed
    FROM unnest($1::bigint[], $2::integer[]) AS new (job_id, attempt)
    JOIN ended_attempts AS ended USING (job_id, attempt)
    JOIN instances USING (job_id, attempt)
    WHERE instances.due_at IS NULL AND instances.terminated_at IS NULL
    ORDER BY instances.instance_id
    FOR UPDATE OF instances)
UPDATE instances SET state = 'ending', end_cause = found.cause, due_at = found.terminate_after,
    boot_failed = found.boot_failed
FROM found
WHERE instances.instance_id = found.instance_id
"""


async def end_instances_of(tx: Transaction, attempts: Sequence[tuple[int, int]]) -> None:
    """End the instances of those of *attempts* (job and number) that have ended.

    Not before the agent's time to clean up is over.
    """
    await tx.conn.execute(
        END_INSTANCES_OF, [job_id for job_id, _ in attempts], [number for _, number in attempts]
    )


# An attempt's end and its instance's launch come in either order, or at once in two replicas,
# where neither handler sees the other's row. This finds such a pair, at the price of a scan of all
# that run.
END_INSTANCES_OF_ENDED = """
WITH found AS MATERIALIZED (
    SELECT instances.instance_id, ended.cause, ended.terminate_after, ended.boot_failed
    FROM instances JOIN ended_attempts AS ended USING (job_id, attempt)
    WHERE instances.state = 'running'
    FOR UPDATE OF instances SKIP LOCKED)
UPDATE instances SET state = 'ending', end_cause = found.cause, due_at = found.terminate_after,
    boot_failed = found.boot_failed
FROM found
WHERE instances.instance_id = found.instance_id
"""


async def end_instances_of_ended(tx: Transaction) -> bool:
    """Do as `end_instances_of` for all that run; return whether there was one."""
    return bool(await tx.conn.execute(END_INSTANCES_OF_ENDED) != "UPDATE 0")


CLAIM_ENDING = """
UPDATE instances SET due_at = $2, lease_token = $3, tries = tries + 1
WHERE instance_id = ANY (ARRAY(
    SELECT instance_id FROM instances WHERE state = 'ending' AND due_at <= $1
    ORDER BY due_at LIMIT (SELECT $4::integer)
    FOR UPDATE SKIP LOCKED))
RETURNING instance_id, job_id, attempt, launch_token, trace, state, market, hourly_price_usd,
    launched_at, dies_by, other_prices, end_cause, due_at, tries, missing_since,
    boot_failed AND NOT EXISTS (
        SELECT FROM consoles WHERE consoles.instance_id = instances.instance_id) AS console_unread
"""


async def claim_ending(
    tx: Transaction, *, until: datetime, token: uuid.UUID, limit: int
) -> list[Watched]:
    """Lease up to *limit* instances whose end is due to the holder of *token* until *until*."""
    rows = await tx.conn.fetch(CLAIM_ENDING, tx.now, until, token, limit)
    return [msgspec.convert(dict(row), Watched) for row in rows]


# A row with a token is `ending`: the claim sets it, the end clears it. Without a join to a list:
# the planner might take the rows with the token for few, scan all instances to find them, and then
# the list for each.
POSTPONE = """
UPDATE instances
SET due_at = ($2::timestamptz[])[array_position($1::text[], instance_id)], lease_token = NULL
WHERE instance_id = ANY ($1::text[]) AND lease_token = $3
"""


async def postpone(tx: Transaction, due: Mapping[str, datetime], token: uuid.UUID) -> None:
    """Release what *token* still holds: each is due again at its time in *due*."""
    await tx.conn.execute(POSTPONE, list(due), list(due.values()), token)


# Guarded by `terminated_at` and not by a lease: the cloud's answer is true without one.
LOCK_LIVING = """
SELECT instance_id FROM instances WHERE instance_id = ANY ($1::text[]) AND terminated_at IS NULL
ORDER BY instance_id
FOR UPDATE
"""

# By the key alone: see `POSTPONE`.
RECORD_TERMINATED = """
UPDATE instances SET state = 'terminated', end_cause = new.cause, terminated_at = new.terminated_at,
    billed_seconds = new.billed_seconds, cost_usd = new.cost_usd,
    cost_lines = new.cost_lines::jsonb, settled_at = $6, due_at = NULL, lease_token = NULL,
    -- From the end of its attempt on; all its life if it was orphaned; nothing if it was free.
    leaked_seconds = CASE WHEN new.billed_seconds = 0 THEN 0 ELSE
        greatest(0, extract(epoch FROM new.terminated_at - coalesce(
            (SELECT ended_at FROM ended_attempts AS ended
                WHERE (ended.job_id, ended.attempt) = (instances.job_id, instances.attempt)),
            CASE WHEN instances.end_cause = 'orphan' THEN instances.launched_at END,
            new.terminated_at))) END
FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::integer[], $5::double precision[],
        $7::text[])
    AS new (instance_id, cause, terminated_at, billed_seconds, cost_usd, cost_lines)
WHERE instances.instance_id = new.instance_id
RETURNING instances.instance_id, instances.leaked_seconds, instances.boot_failed
"""


async def record_terminated(
    tx: Transaction, terminated: Sequence[Terminated]
) -> dict[str, Recorded]:
    """Record these ends; return, by instance, those that were not recorded before."""
    ids = [each.watched.instance_id for each in terminated]
    living = {row["instance_id"] for row in await tx.conn.fetch(LOCK_LIVING, ids)}
    new = [each for each in terminated if each.watched.instance_id in living]
    if not new:
        return {}
    rows = await tx.conn.fetch(
        RECORD_TERMINATED,
        [each.watched.instance_id for each in new],
        [each.cause for each in new],
        [each.terminated_at for each in new],
        [each.billed_seconds for each in new],
        [each.cost_usd for each in new],
        tx.now,
        [json_or_null(each.cost_lines) for each in new],
    )
    recorded = [msgspec.convert(dict(row), Recorded) for row in rows]
    return {each.instance_id: each for each in recorded}


NEXT_ENDING = "SELECT min(due_at) FROM instances WHERE state = 'ending'"


async def next_ending(tx: Transaction) -> datetime | None:
    """Return when the next end is due, or None if none is."""
    due_at: datetime | None = await tx.conn.fetchval(NEXT_ENDING)
    return due_at


WATCHED = """
SELECT instance_id, job_id, attempt, launch_token, trace, state, market, hourly_price_usd,
    launched_at, dies_by, other_prices, end_cause, due_at, tries, missing_since, unlisted_seconds
FROM instances
WHERE settled_at IS NULL OR instance_id = ANY ($1::text[])
"""


async def watched(tx: Transaction, listed: Sequence[str]) -> list[Watched]:
    """Return all that live, and those of *listed* that are terminated."""
    rows = await tx.conn.fetch(WATCHED, listed)
    return [msgspec.convert(dict(row), Watched) for row in rows]


MARK_MISSING = """
UPDATE instances SET missing_since = $2, ask_at = NULL, not_found_at = NULL, not_found_seconds = 0
WHERE instance_id = ANY ($1::text[]) AND missing_since IS NULL
"""


async def mark_missing(tx: Transaction, instance_ids: Sequence[str]) -> None:
    """Mark these as missing from a complete list."""
    await tx.conn.execute(MARK_MISSING, instance_ids, tx.now)


CLEAR_MISSING = """
UPDATE instances SET missing_since = NULL, unlisted_seconds = 0
WHERE instance_id = ANY ($1::text[])
"""


async def clear_missing(tx: Transaction, instance_ids: Sequence[str]) -> None:
    """Clear the mark of these: the list shows them again."""
    await tx.conn.execute(CLEAR_MISSING, instance_ids)


END_LIVES = """
UPDATE instances SET state = 'ending', end_cause = $3, due_at = $2
WHERE instance_id = ANY ($1::text[]) AND due_at IS NULL AND terminated_at IS NULL
"""


async def end_lives(tx: Transaction, instance_ids: Sequence[str], cause: str) -> None:
    """End these now, for a *cause* of our own."""
    await tx.conn.execute(END_LIVES, instance_ids, tx.now, cause)


PRUNE_INSTANCES = """
DELETE FROM instances WHERE instance_id = ANY (ARRAY(
    SELECT instance_id FROM instances WHERE settled_at < $1 ORDER BY settled_at LIMIT $2))
"""

# OFFSET 0 prevents a join, for which Postgres might read all instances.
PRUNE_ENDED_ATTEMPTS = """
DELETE FROM ended_attempts WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM ended_attempts AS old WHERE ended_at < $1
        AND NOT EXISTS (SELECT FROM instances WHERE terminated_at IS NULL
            AND instances.job_id = old.job_id AND instances.attempt = old.attempt OFFSET 0)
    ORDER BY ended_at LIMIT $2
    FOR UPDATE SKIP LOCKED))
"""


async def prune_instances(tx: Transaction, before: datetime, limit: int) -> bool:
    """Delete what ended before *before*; return True if there may be more."""
    results = [
        await tx.conn.execute(sql, before, limit) for sql in (PRUNE_INSTANCES, PRUNE_ENDED_ATTEMPTS)
    ]
    return any(int(result.removeprefix("DELETE ")) >= limit for result in results)
