"""SQL of `/list`: keyset pages, newest first. A page costs the same at any number of jobs."""

from msgspec import Raw

from services.api.model import Listed
from shared.db import Connection

# The fields of `Listed` in their order, those that stay JSON last.
# Attempts are looked up job by job: joined, Postgres reads all of them for a page of a thousand.
# OFFSET 0 keeps it from joining.
_COLUMNS = """
SELECT j.id, j.name, j.docker_image, j.scheduled_for, j.timezone, j.timeout_seconds,
       j.resources::text, j.capacity, j.spot_wait_seconds, j.retries, j.registry_auth, j.status,
       j.attempt, j.exit_code, j.error_message, j.created_at, j.finished_at,
       a.state, a.due_at, a.waiting_because, a.waiting_until, a.check_at, a.runtime,
       a.heartbeat_at, a.instance_id, a.spot_instance_request_id,
       coalesce(j.command, 'null')::text, j.env_vars::text, j.labels::text, j.secret_env::text,
       j.secrets::text
FROM jobs j CROSS JOIN LATERAL (
    SELECT * FROM attempts WHERE job_id = j.id AND number = j.attempt OFFSET 0) a
WHERE j.id < $1 {where} ORDER BY j.id DESC LIMIT $2
"""
_OF_JSON = 5
LIST_ALL = _COLUMNS.format(where="")
LIST_BY_STATUS = _COLUMNS.format(where="AND status = $3")
LIST_BY_LABELS = _COLUMNS.format(where="AND labels <> '{}' AND labels @> $3")
LIST_BY_STATUS_AND_LABELS = _COLUMNS.format(
    where="AND status = $3 AND labels <> '{}' AND labels @> $4"
)

LAST_ID = 2**63 - 1


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
    return [Listed(*row[:-_OF_JSON], *map(Raw, row[-_OF_JSON:])) for row in rows]
