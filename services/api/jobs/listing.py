"""SQL of `/list`: keyset pages, newest first. A page costs the same at any number of jobs."""

from collections.abc import Sequence
from typing import Any

from msgspec import Raw

from services.api.jobs.columns import COLUMNS, NAMES
from services.api.jobs.model import ListedJob
from shared.postgres.pool import Connection

# The statements leave the planner no choice: with statistics from before a bulk load, or in a
# generic plan, it would walk all jobs for a page of few. So only the intended index fits.

# The fields of `ListedJob` in their order, then what the client gave: first what is no JSON.
_GIVEN = sorted(COLUMNS, key=lambda column: column.is_json)
_JSON = sum(column.is_json for column in COLUMNS)
_AS_TEXT = ", ".join(
    f"coalesce(j.{each.quoted}, 'null')::text" if each.is_json else f"j.{each.quoted}"
    for each in _GIVEN
)
_COLUMNS = f"""
SELECT j.id, j.status, j.attempt, j.exit_code, j.error_message, j.created_at, j.finished_at,
       a.state, a.phase_detail, a.due_at, a.waiting_because, a.waiting_until, a.retry_because,
       a.check_at, a.runtime, a.heartbeat_at, a.instance_id, a.spot_instance_request_id, a.cause,
       (a.entered ->> 'running')::timestamptz AS running_at,
       every.attempts, every.started_at, every.cost_usd, {_AS_TEXT}
"""
# Attempts are looked up job by job: joined, Postgres reads all of them for a page of a thousand.
# OFFSET 0 keeps it from joining.
_ATTEMPT = """
CROSS JOIN LATERAL (
    SELECT * FROM attempts WHERE job_id = j.id AND number = j.attempt OFFSET 0) a
CROSS JOIN LATERAL (
    SELECT count(*) AS attempts, min((entered ->> 'running')::timestamptz) AS started_at,
           CASE WHEN bool_and(cost_usd IS NOT NULL) FILTER (WHERE billed_seconds IS NOT NULL)
                THEN sum(cost_usd) END AS cost_usd
    FROM attempts WHERE job_id = j.id OFFSET 0) every
"""
LIST_ALL = f"""
{_COLUMNS} FROM jobs j {_ATTEMPT}
WHERE j.id < $1 ORDER BY j.id DESC LIMIT $2
"""
LIST_BY_STATUS = f"""
{_COLUMNS} FROM jobs j {_ATTEMPT}
WHERE (j.status, j.id) < ($3, $1::bigint) AND j.status >= $3
ORDER BY j.status DESC, j.id DESC LIMIT $2
"""

# Each filter is a list of ids, in order. A step looks in every one for its last id up to *upto*;
# the lowest of them is *top*, as nothing above it is in all. Of the next ids that the first label
# has from there down it takes those that match. So there are never many more steps than the
# shortest list has ids, however long the others are; 25 ids take about as long as to find *top*.
_WALK = """
WITH RECURSIVE walk (upto, found) AS (
    SELECT $1::bigint - 1, '{{}}'::bigint[]
    UNION ALL
    SELECT block.low - 1, block.found
    FROM walk CROSS JOIN LATERAL (
        SELECT min(coalesce(last, 0)) AS id FROM ({lasts}) lists OFFSET 0) top
    CROSS JOIN LATERAL (
        SELECT min(job_id) AS low, array_agg(job_id ORDER BY job_id DESC) FILTER (WHERE EXISTS (
            SELECT FROM jobs WHERE id = job_id AND labels @> $3 {status})) AS found
        FROM (SELECT job_id FROM job_labels
              WHERE (name, value) = (SELECT key, value FROM jsonb_each_text($3) LIMIT 1)
                  AND job_id <= top.id
              ORDER BY job_id DESC LIMIT 25) ids) block
    WHERE top.id > 0
)
"""
_LAST_OF_LABEL = """
SELECT (SELECT job_id FROM job_labels
        WHERE name = label.key AND value = label.value AND job_id <= upto
        ORDER BY job_id DESC LIMIT 1) AS last
FROM jsonb_each_text($3) label
"""
_LAST_OF_STATUS = """
SELECT (SELECT id FROM jobs WHERE (status, id) <= ($4, upto) AND status >= $4
        ORDER BY status DESC, id DESC LIMIT 1)
"""
_FOUND = f"""
{_COLUMNS} FROM (SELECT unnest(found) AS id FROM walk LIMIT $2) page
CROSS JOIN LATERAL (SELECT * FROM jobs WHERE id = page.id OFFSET 0) j {_ATTEMPT}
ORDER BY j.id DESC
"""  # noqa: S608 - our own columns
LIST_BY_LABELS = _WALK.format(lasts=_LAST_OF_LABEL, status="") + _FOUND
LIST_BY_STATUS_AND_LABELS = (
    _WALK.format(lasts=f"{_LAST_OF_LABEL} UNION ALL {_LAST_OF_STATUS}", status="AND status = $4")
    + _FOUND
)

LAST_ID = 2**63 - 1


async def list_jobs(
    conn: Connection,
    *,
    before: int = LAST_ID,
    limit: int,
    status: str | None = None,
    labels: Sequence[tuple[str, str]] = (),
) -> list[ListedJob]:
    """Load up to *limit* jobs with ids below *before*, newest first, that match all filters."""
    wanted = dict(labels)
    if len(wanted) < len(set(labels)):
        return []  # a label has one value
    if status is not None and wanted:
        rows = await conn.fetch(LIST_BY_STATUS_AND_LABELS, before, limit, wanted, status)
    elif status is not None:
        rows = await conn.fetch(LIST_BY_STATUS, before, limit, status)
    elif wanted:
        rows = await conn.fetch(LIST_BY_LABELS, before, limit, wanted)
    else:
        rows = await conn.fetch(LIST_ALL, before, limit)
    return [_listed(row) for row in rows]


_ORDERED = dict.fromkeys(NAMES)
_NAMES = tuple(each.name for each in _GIVEN)


def _listed(row: Any) -> ListedJob:
    given = (*row[-len(_NAMES) : -_JSON], *map(Raw, row[-_JSON:]))
    fields = (*row[: -len(_NAMES)], _ORDERED | dict(zip(_NAMES, given, strict=True)))
    return ListedJob(*fields)
