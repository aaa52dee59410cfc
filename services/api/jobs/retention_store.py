"""SQL of retention: find old jobs, remove their logs, and remove them."""

from collections.abc import Collection, Sequence
from datetime import datetime

from msgspec import Struct

from services.api.jobs.retention import RetentionDefaults
from shared.postgres.pool import Connection, Transaction

LOAD_DEFAULTS = "SELECT jobs_days, logs_days FROM retention"


async def load_defaults(conn: Connection) -> RetentionDefaults:
    """Load what the deployment keeps if no setting says otherwise."""
    row = await conn.fetchrow(LOAD_DEFAULTS)
    return (
        RetentionDefaults()
        if row is None
        else RetentionDefaults(row["jobs_days"], row["logs_days"])
    )


class Finish(Struct, frozen=True):
    """The time at which a job finished: its place in the order of removal."""

    finished_at: datetime
    job_id: int


# From the place where the last page ended: from the beginning, the index entries of all that was
# removed since the last vacuum would be read again for each page.
FINISHED_WITH_LOGS = """
SELECT finished_at, id FROM jobs
WHERE finished_at IS NOT NULL AND logs_removed_at IS NULL
    AND (finished_at, id) > ($1, $2::bigint) AND finished_at < $3
ORDER BY finished_at, id LIMIT (SELECT $4::integer)
"""


async def finished_with_logs(
    conn: Connection, after: Finish, before: datetime, limit: int
) -> list[Finish]:
    """Find jobs with logs that finished before *before*, in order, from *after* on."""
    rows = await conn.fetch(FINISHED_WITH_LOGS, after.finished_at, after.job_id, before, limit)
    return [Finish(row["finished_at"], row["id"]) for row in rows]


FINISHED_WITHOUT_LOGS = """
SELECT finished_at, id FROM jobs
WHERE logs_removed_at IS NOT NULL
    AND (finished_at, id) > ($1, $2::bigint) AND finished_at < $3
ORDER BY finished_at, id LIMIT (SELECT $4::integer)
"""


async def finished_without_logs(
    conn: Connection, after: Finish, before: datetime, limit: int
) -> list[Finish]:
    """Find jobs without logs that finished before *before*, in order, from *after* on."""
    rows = await conn.fetch(FINISHED_WITHOUT_LOGS, after.finished_at, after.job_id, before, limit)
    return [Finish(row["finished_at"], row["id"]) for row in rows]


# All that changes a job's rows locks the job first, so the rows below need no locks in an order.
LOCK_FREE_IDS = """
SELECT id FROM jobs WHERE id = ANY ($1::bigint[]) ORDER BY id FOR UPDATE SKIP LOCKED
"""


async def lock_free_ids(tx: Transaction, job_ids: Collection[int]) -> list[int]:
    """Lock those of the jobs that no other transaction has locked; return their ids."""
    return [row["id"] for row in await tx.conn.fetch(LOCK_FREE_IDS, list(job_ids))]


REMOVE_LOG_BATCHES = """
DELETE FROM log_batches WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM log_batches WHERE job_id = ANY ($1::bigint[]) LIMIT (SELECT $2::integer)))
"""
REMOVE_LOG_TAILS = """
DELETE FROM log_tails WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM log_tails WHERE job_id = ANY ($1::bigint[]) LIMIT (SELECT $2::integer)))
"""
MARK_LOGS_REMOVED = "UPDATE jobs SET logs_removed_at = $2 WHERE id = ANY ($1::bigint[])"


async def remove_logs(tx: Transaction, job_ids: Sequence[int], limit: int) -> bool:
    """Remove up to *limit* rows of the logs of locked jobs from each table.

    Return whether that was all; then the jobs are marked.
    """
    for statement in (REMOVE_LOG_BATCHES, REMOVE_LOG_TAILS):
        if await tx.conn.execute(statement, job_ids, limit) == f"DELETE {limit}":
            return False
    await tx.conn.execute(MARK_LOGS_REMOVED, job_ids, tx.now)
    return True


FIND_LOGS_REMOVED = "SELECT logs_removed_at FROM jobs WHERE id = $1"


async def find_logs_removed(conn: Connection, job_id: int) -> datetime | None:
    """Return the time at which the logs of a job were removed; None: they were not."""
    removed_at: datetime | None = await conn.fetchval(FIND_LOGS_REMOVED, job_id)
    return removed_at


FIND_KEYED = "SELECT DISTINCT job_id FROM idempotency_keys WHERE job_id = ANY ($1::bigint[])"


async def find_keyed(conn: Connection, job_ids: Sequence[int]) -> set[int]:
    """Find those of the jobs whose Idempotency-Key is still honoured."""
    return {row["job_id"] for row in await conn.fetch(FIND_KEYED, job_ids)}


# Secrets and logs have foreign keys to the job and would go with it, one job at a time.
REMOVE_JOBS = """
WITH removed_labels AS (
    DELETE FROM job_labels WHERE ctid = ANY (ARRAY(
        SELECT own.ctid FROM jobs CROSS JOIN LATERAL jsonb_each_text(labels) AS label
        CROSS JOIN LATERAL (SELECT ctid FROM job_labels
            WHERE name = label.key AND value = label.value AND job_id = jobs.id OFFSET 0) own
        WHERE id = ANY ($1::bigint[])))
), removed_keys AS (
    DELETE FROM idempotency_keys WHERE job_id = ANY ($1::bigint[])
), removed_attempts AS (
    DELETE FROM attempts WHERE job_id = ANY ($1::bigint[])
), removed_secrets AS (
    DELETE FROM job_secrets WHERE job_id = ANY ($1::bigint[])
), removed_batches AS (
    DELETE FROM log_batches WHERE job_id = ANY ($1::bigint[])
), removed_tails AS (
    DELETE FROM log_tails WHERE job_id = ANY ($1::bigint[])
), removed_changes AS (
    DELETE FROM job_changes WHERE job_id = ANY ($1::bigint[])
), removed_new_changes AS (
    DELETE FROM new_job_changes WHERE job_id = ANY ($1::bigint[])
)
DELETE FROM jobs WHERE id = ANY ($1::bigint[])
"""


# Else the numbering might move a change on meanwhile, where the removal does not see it.
KEEP_FROM_NUMBERING = "SELECT FROM job_change_counter FOR UPDATE"


async def remove_jobs(tx: Transaction, job_ids: Sequence[int]) -> None:
    """Remove locked jobs and all that belongs to them. Their totals must be added before."""
    await tx.conn.execute(KEEP_FROM_NUMBERING)
    await tx.conn.execute(REMOVE_JOBS, job_ids)


NEWEST_REMOVED = "SELECT max(last_job_id) FROM daily_totals"


async def newest_removed(conn: Connection) -> int:
    """Return the highest id of a removed job; 0 if none was removed.

    A lower id that is missing was removed too, or never given to a job.
    """
    return int(await conn.fetchval(NEWEST_REMOVED) or 0)
