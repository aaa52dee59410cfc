"""SQL over batches: committed before their first call, leased for each later one."""

import uuid
from datetime import datetime

import msgspec
from msgspec.structs import replace

from services.launcher.model import BatchRecord, Launch, LeaseGrowth
from shared.postgres.pool import Transaction

ADD_BATCH = """
INSERT INTO batches (token, size, plan, plan_hash, asked_at, due_at, lease_token)
VALUES ($1, $2, $3, $4, $5, $6, $7)
"""

SAVE_INTENT = """
UPDATE launches SET state = 'asked', launch_token = new.launch_token, params = new.params,
    asked_at = $5, batch_token = $6, batch_place = new.place, due_at = $7, lease_token = NULL
FROM unnest($1::bigint[], $2::integer[], $3::text[], $4::jsonb[])
    WITH ORDINALITY AS new (job_id, attempt, launch_token, params, place)
WHERE launches.job_id = new.job_id AND launches.attempt = new.attempt
"""


async def save_intent(
    tx: Transaction, batch: BatchRecord, until: datetime, token: uuid.UUID
) -> None:
    """Record a batch before its first call, and lease it to the holder of *token* until *until*.

    This transaction has locked the launches.
    """
    launches = batch.launches
    await tx.conn.execute(
        ADD_BATCH,
        batch.token,
        len(launches),
        batch.plan,
        batch.plan_hash,
        batch.asked_at,
        until,
        token,
    )
    await tx.conn.execute(
        SAVE_INTENT,
        [each.job_id for each in launches],
        [each.attempt for each in launches],
        [each.launch_token for each in launches],
        [each.params for each in launches],
        batch.asked_at,
        batch.token,
        until,
    )


# The holder before may have called: any call from now on comes after a possible effect.
CLAIM_BATCHES = """
UPDATE batches SET lease_token = $3, repeated = true,
    due_at = $2::timestamptz + make_interval(secs => $5::float8 * greatest(size - $6::integer, 0))
WHERE token = ANY (ARRAY(
    SELECT token FROM batches WHERE due_at <= $1 ORDER BY due_at LIMIT (SELECT $4::integer)
    FOR UPDATE SKIP LOCKED))
RETURNING token, plan, plan_hash, asked_at, repeated
"""

LAUNCHES_OF = """
SELECT job_id, attempt, state, unwanted, requirements, trace, offer, wanted_at, due_at,
    launch_token, params, asked_at, batch_token, batch_place, reason, tries, delay_told_at,
    last_error, to_change
FROM launches
WHERE batch_token = ANY ($1::text[]) AND state = 'asked'
ORDER BY batch_token, batch_place
"""


async def claim_batches(
    tx: Transaction, until: datetime, token: uuid.UUID, limit: int, growth: LeaseGrowth
) -> list[BatchRecord]:
    """Lease up to *limit* batches that are due for a repeated call to the holder of *token*."""
    rows = await tx.conn.fetch(CLAIM_BATCHES, tx.now, until, token, limit, *growth)
    batches = [msgspec.convert(dict(row), BatchRecord) for row in rows]
    if not batches:
        return []
    launches: dict[str | None, list[Launch]] = {}
    for row in await tx.conn.fetch(LAUNCHES_OF, [each.token for each in batches]):
        launch = msgspec.convert(dict(row), Launch)
        launches.setdefault(launch.batch_token, []).append(launch)
    return [replace(each, launches=tuple(launches.get(each.token, ()))) for each in batches]


# A batch with only definite answers has no holder: see `CLOSE_BATCH`.
HOLD_BATCH = "SELECT token FROM batches WHERE token = $1 AND lease_token = $2 FOR UPDATE"

LOCK_ASKED = """
SELECT job_id, attempt, unwanted FROM launches WHERE batch_token = $1 AND state = 'asked'
ORDER BY job_id, attempt
FOR UPDATE
"""


async def lock_batch(tx: Transaction, batch: BatchRecord, token: uuid.UUID) -> list[Launch]:
    """Lock and return the launches of *batch* without an answer; none if *token* lost the lease.

    Without the lease, only `unwanted` of a launch that is asked for is ever changed.
    """
    if await tx.conn.fetchval(HOLD_BATCH, batch.token, token) is None:
        return []
    rows = await tx.conn.fetch(LOCK_ASKED, batch.token)
    unwanted = {(row["job_id"], row["attempt"]): row["unwanted"] for row in rows}
    return [
        replace(each, unwanted=unwanted[each.key])
        for each in batch.launches
        if each.key in unwanted
    ]


CLOSE_BATCH = """
UPDATE batches SET due_at = $2::timestamptz, lease_token = NULL,
    settled_at = CASE WHEN $2::timestamptz IS NULL THEN $3::timestamptz END
WHERE token = $1
"""


async def give_back_batch(tx: Transaction, batch: str, due_at: datetime | None) -> None:
    """Make *batch* due again at *due_at*; None settles it: all its launches have answers."""
    await tx.conn.execute(CLOSE_BATCH, batch, due_at, tx.now)
