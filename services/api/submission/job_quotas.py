"""The quotas of live jobs: a submission that would pass one is refused.

Decided in the transaction that writes the jobs, under a lock: of submissions at once, over many
connections, processes and replicas, each sees the jobs of those before it. Without a quota there is
neither lock nor count.
"""

from collections.abc import Mapping, Sequence

from services.api.jobs.model import TERMINAL
from shared.events.quotas import Limits
from shared.postgres.pool import Connection
from shared.quota_settings import Owner, Quotas, setting_of

LOCK_KEY = 0x_6A6F_6273
"""Of the advisory lock, in the API's database."""


class JobQuotaReached(Exception):
    """The submission would pass a quota of live jobs; none of its jobs was accepted."""


# Until the transaction's end (https://www.postgresql.org/docs/current/explicit-locking.html).
LOCK_JOB_QUOTAS = "SELECT pg_advisory_xact_lock($1)"
COUNT_LIVE_JOBS = """
SELECT count(*) FROM (
    SELECT FROM jobs WHERE status IN ('SCHEDULED', 'RUNNING') LIMIT (SELECT $1::bigint)
) live
"""
COUNT_LIVE_JOBS_OF_KEYS = """
SELECT key, (
    SELECT count(*) FROM (
        SELECT FROM jobs WHERE created_by = key AND status IN ('SCHEDULED', 'RUNNING')
        LIMIT (SELECT $2::bigint)
    ) live
) AS jobs
FROM unnest($1::text[]) AS key
"""


async def find_refused(
    conn: Connection, submissions: Sequence[tuple[str | None, int]], quotas: Quotas
) -> list[JobQuotaReached | None]:
    """Return why each of *submissions*, a key's prefix and its jobs, is refused; None: it is not.

    The transaction of *conn* must write those that are not, since it holds the lock.
    """
    await conn.execute(LOCK_JOB_QUOTAS, LOCK_KEY)
    keys = sorted({key for key, _ in submissions if key is not None})
    total = await count_live(conn, quotas.deployment.jobs)
    of_keys = await count_live_of(conn, keys, quotas.key.jobs)
    return decide_refused(submissions, total, of_keys, quotas)


async def count_live(conn: Connection, most: int | None) -> int:
    """Count the deployment's live jobs, up to *most*; 0 for None."""
    return 0 if most is None else int(await conn.fetchval(COUNT_LIVE_JOBS, most))


async def count_live_of(
    conn: Connection, keys: Sequence[str], most: int | None
) -> Mapping[str, int]:
    """Count the live jobs of each of *keys*, up to *most*; empty for None."""
    if most is None or not keys:
        return {}
    rows = await conn.fetch(COUNT_LIVE_JOBS_OF_KEYS, keys, most)
    return {row["key"]: row["jobs"] for row in rows}


def decide_refused(
    submissions: Sequence[tuple[str | None, int]],
    total: int,
    of_keys: Mapping[str, int],
    quotas: Quotas,
) -> list[JobQuotaReached | None]:
    """Return the same from the live jobs in *total* and *of_keys*. Pure; all jobs or none."""
    used = dict(of_keys)
    refused: list[JobQuotaReached | None] = []
    for key, jobs in submissions:
        own = used.get(key or "", 0)
        trouble = _trouble("the deployment", total, jobs, quotas.deployment, "QUOTA")
        if trouble is None and key is not None:
            trouble = _trouble(f"API key {key}", own, jobs, quotas.key, "KEY_QUOTA")
        if trouble is None:
            total += jobs
            used[key or ""] = own + jobs
        refused.append(None if trouble is None else JobQuotaReached(trouble))
    return refused


def _trouble(who: str, used: int, jobs: int, limits: Limits, owner: Owner) -> str | None:
    limit = limits.jobs
    if limit is None or used + jobs <= limit:
        return None
    setting = setting_of(owner, "JOBS")
    if jobs > limit:
        return f"{who} may have {limit} live jobs, and {jobs} were asked for at once ({setting})"
    asked = "" if jobs == 1 else f", and {jobs} more were asked for, of which none was scheduled"
    return (
        f"{who} has {used} of {limit} live jobs{asked}: wait until some are "
        f"{', '.join(sorted(TERMINAL))}, or cancel some ({setting})"
    )
