"""SQL of `/list`: keyset pages, newest first. A page costs the same at any number of jobs."""

from typing import Any

from msgspec import Struct

from services.api.model import Attempt, Job
from services.api.store.jobs import as_job
from shared.db import Connection

# What a list shows of an attempt: as columns, since a whole row as jsonb would take Postgres and us
# longer than all the rest.
_OF_ATTEMPT = (
    *("number", "state", "due_at", "waiting_because", "waiting_until", "check_at", "runtime"),
    *("heartbeat_at", "instance_id", "spot_instance_request_id"),
)
# Looked up job by job: joined, Postgres reads all attempts for a page of a thousand. OFFSET 0 keeps
# it from joining.
_COLUMNS = f"""
SELECT j.*, {", ".join(f"a.{column} AS its_{column}" for column in _OF_ATTEMPT)}
FROM jobs j CROSS JOIN LATERAL (
    SELECT * FROM attempts WHERE job_id = j.id AND number = j.attempt OFFSET 0) a
WHERE j.id < $1 {{where}} ORDER BY j.id DESC LIMIT $2
"""  # noqa: S608 - the names of our own columns
LIST_ALL = _COLUMNS.format(where="")
LIST_BY_STATUS = _COLUMNS.format(where="AND status = $3")
LIST_BY_LABELS = _COLUMNS.format(where="AND labels <> '{}' AND labels @> $3")
LIST_BY_STATUS_AND_LABELS = _COLUMNS.format(
    where="AND status = $3 AND labels <> '{}' AND labels @> $4"
)

LAST_ID = 2**63 - 1


class Listed(Struct, frozen=True):
    """A job with what is shown of its current attempt; `entered` is empty."""

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
    return [_as_listed(row) for row in rows]


def _as_listed(row: Any) -> Listed:
    job = as_job(row)
    shown = {column: row[f"its_{column}"] for column in _OF_ATTEMPT}
    return Listed(job, Attempt(job_id=job.id, entered={}, **shown))
