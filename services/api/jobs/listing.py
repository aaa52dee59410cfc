"""SQL of `/list`: its columns, and its pages without a filter. `search.py` has the others."""

from typing import Any

from msgspec import Raw

from services.api.jobs.columns import COLUMNS, NAMES
from services.api.jobs.costs import DIGITS
from services.api.jobs.listed import ListedJob
from shared.postgres.pool import Connection

# The fields of `ListedJob` in their order, then what the client gave: first what is no JSON.
_GIVEN = sorted(COLUMNS, key=lambda column: column.is_json)
_JSON = sum(column.is_json for column in COLUMNS)
_AS_TEXT = ", ".join(
    f"coalesce(j.{each.quoted}, 'null')::text" if each.is_json else f"j.{each.quoted}"
    for each in _GIVEN
)
LISTED = f"""
j.id, j.status, j.attempt, j.exit_code, j.error_message, j.created_at, j.finished_at,
       a.state, a.phase_detail, a.due_at, a.waiting_because, a.waiting_until, a.retry_because,
       a.check_at, a.runtime, a.heartbeat_at, a.instance_id, a.spot_instance_request_id, a.cause,
       (a.entered ->> 'running')::timestamptz AS running_at,
       every.attempts, every.started_at, every.cost_usd, {_AS_TEXT}
"""
# Attempts are looked up job by job: joined, Postgres reads all of them for a page of a thousand.
# OFFSET 0 keeps it from joining.
ATTEMPTS = f"""
CROSS JOIN LATERAL (
    SELECT * FROM attempts WHERE job_id = j.id AND number = j.attempt OFFSET 0) a
CROSS JOIN LATERAL (
    SELECT count(*) AS attempts, min((entered ->> 'running')::timestamptz) AS started_at,
           CASE WHEN bool_and(cost_usd IS NOT NULL) FILTER (WHERE billed_seconds IS NOT NULL)
                THEN sum(round(cost_usd::numeric, {DIGITS}))::float8 END AS cost_usd
    FROM attempts WHERE job_id = j.id OFFSET 0) every
"""  # noqa: S608 - our own number
LIST_ALL = f"""
SELECT {LISTED} FROM jobs j {ATTEMPTS}
WHERE j.id < $1 ORDER BY j.id DESC LIMIT $2
"""  # noqa: S608 - our own columns


async def list_all(conn: Connection, before: int, limit: int) -> list[ListedJob]:
    """Load up to *limit* jobs with ids below *before*, newest first."""
    return [as_listed(row) for row in await conn.fetch(LIST_ALL, before, limit)]


_ORDERED = dict.fromkeys(NAMES)
_NAMES = tuple(each.name for each in _GIVEN)


def as_listed(row: Any) -> ListedJob:
    """Convert a row with the columns of `LISTED`."""
    given = (*row[-len(_NAMES) : -_JSON], *map(Raw, row[-_JSON:]))
    fields = (*row[: -len(_NAMES)], _ORDERED | dict(zip(_NAMES, given, strict=True)))
    return ListedJob(*fields)
