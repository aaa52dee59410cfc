"""SQL of `/list`: keyset pages, newest first. A page costs the same at any number of jobs."""

from typing import Any

from msgspec import Struct

from services.api.model import Attempt, Job
from services.api.store.jobs import as_attempt, as_job
from shared.db import Connection

# The attempt is looked up job by job: joined, Postgres reads all attempts for a page of a thousand.
_COLUMNS = """
SELECT j.*, (SELECT to_jsonb(a) - 'token_hash' FROM attempts a
             WHERE a.job_id = j.id AND a.number = j.attempt) AS current
FROM jobs j WHERE id < $1 {where} ORDER BY id DESC LIMIT $2
"""
LIST_ALL = _COLUMNS.format(where="")
LIST_BY_STATUS = _COLUMNS.format(where="AND status = $3")
LIST_BY_LABELS = _COLUMNS.format(where="AND labels <> '{}' AND labels @> $3")
LIST_BY_STATUS_AND_LABELS = _COLUMNS.format(
    where="AND status = $3 AND labels <> '{}' AND labels @> $4"
)

LAST_ID = 2**63 - 1


class Listed(Struct, frozen=True):
    """A job with its current attempt."""

    job: Job
    attempt: Attempt


async def list_jobs(
    conn: Connection,
    *,
    before: int = LAST_ID,
    limit: int,
    status: str | None = None,
    labels: dict[str, str] | None = None,
) -> list[Listed]:
    """Up to *limit* jobs with ids below *before*, newest first, that match the filters."""
    if status is not None and labels:
        rows = await conn.fetch(LIST_BY_STATUS_AND_LABELS, before, limit, status, labels)
    elif status is not None:
        rows = await conn.fetch(LIST_BY_STATUS, before, limit, status)
    elif labels:
        rows = await conn.fetch(LIST_BY_LABELS, before, limit, labels)
    else:
        rows = await conn.fetch(LIST_ALL, before, limit)
    return [_as_listed(dict(row)) for row in rows]


def _as_listed(row: dict[str, Any]) -> Listed:
    attempt = as_attempt(row.pop("current"))
    return Listed(as_job(row), attempt)
