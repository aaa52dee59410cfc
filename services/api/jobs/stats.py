"""Statistics of finished jobs by day, status, label, instance type or image: SQL and values.

A job counts where its current attempt ran, and each attempt and its cost where that ran: so the
groups add up to the total. Of removed jobs there are sums by day, status and project alone
(`totals.py`).
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal

import msgspec
from msgspec import Struct

from services.api.jobs.costs import WASTED, rounded
from services.api.jobs.totals import BILLED_ON_DEMAND, REMOVED
from shared.postgres.errors import is_cancelled
from shared.postgres.pool import Connection, Database

By = Literal["day", "status", "label", "instance_type", "image", "project", "created_by"]
SUMMED: tuple[By, ...] = ("day", "status", "project")
"""The properties by which removed jobs are summed up."""

MOST_GROUPS = 1000
SECONDS = 25
"""The longest time that the database counts."""


class StatsTooLarge(Exception):
    """The jobs cannot be counted within `SECONDS`."""


class Question(Struct, frozen=True):
    """The jobs that finished from *since* on and before *until*, grouped *by* one property.

    *label* is the name of the label, if it is grouped by one. *project*: of which alone.
    """

    since: datetime
    until: datetime
    by: By = "day"
    label: str | None = None
    project: str | None = None


class Stats(Struct, frozen=True, kw_only=True):
    """Counts and sums over jobs. Money: None if no amount is known though something was launched.

    `unknown_costs`: the attempts with an instance whose cost is not known; the sums are without
    them. `lost_usd`: paid for attempts that did no work. `saved_usd`: the on-demand price less what
    was paid, so what was lost counts against it. Lateness: from the scheduled time to the first
    start of a container, None if none started; without removed jobs.
    """

    jobs: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    attempts: int = 0
    interruptions: int = 0
    billed_seconds: int = 0
    cost_usd: float | None = 0.0
    unknown_costs: int = 0
    lost_usd: float | None = 0.0
    saved_usd: float | None = 0.0
    lateness_median_seconds: float | None = None
    lateness_p95_seconds: float | None = None


class StatsGroup(Stats, frozen=True, kw_only=True):
    """The statistics of the jobs with one *key*; None: those without one, as without the label."""

    key: str | None = None


class StatsAnswer(Struct, frozen=True, kw_only=True):
    """The answer to a `Question`.

    `removed_jobs`: the jobs that finished on these days, are removed, and are not counted here.
    `groups_left_out`: the groups beyond `MOST_GROUPS`, which are in the total.
    """

    since: datetime
    until: datetime
    by: str
    total: Stats
    groups: list[StatsGroup]
    removed_jobs: int
    groups_left_out: int


_COLUMNS = """
SELECT id, status, attempt, scheduled_for, finished_at, docker_image, labels, project,
    created_by FROM jobs
"""
_FINISHED = f"{_COLUMNS} WHERE finished_at >= $1 AND finished_at < $2"
_STATUS_COUNTS = ", ".join(
    f"count(*) FILTER (WHERE status = '{each.upper()}') AS {each}"
    for each in ("done", "failed", "cancelled")
)
# Each finished job is in one of two indexes: with its logs, or without.
_OF_ALL = f"""
{_FINISHED} AND finished_at IS NOT NULL AND logs_removed_at IS NULL AND $7::text IS NULL
UNION ALL
{_FINISHED} AND logs_removed_at IS NOT NULL
"""
# Rows are compared, so that the index of the project's finished jobs fits best.
_OF_PROJECT = f"""
{_COLUMNS} WHERE finished_at IS NOT NULL
    AND (project, finished_at) >= ($7, $1) AND (project, finished_at) < ($7, $2)
"""
# One row an attempt. Only where a job had several, earlier ones are looked up for the first start.
_COUNT = f"""
WITH found AS ({{found}}), tries AS (
    SELECT
        CASE $3::text
            WHEN 'day' THEN to_char(found.finished_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')
            WHEN 'status' THEN found.status
            WHEN 'instance_type' THEN own.instance_type
            WHEN 'image' THEN found.docker_image
            WHEN 'project' THEN found.project
            WHEN 'created_by' THEN found.created_by
            ELSE found.labels ->> $4::text
        END AS key,
        CASE WHEN own.number = found.attempt THEN found.status END AS status,
        own.cause, own.instance_id, own.billed_seconds, own.cost_usd,
        own.cause = ANY ($5::text[]) AS wasted,
        CASE WHEN own.cause = ANY ($5::text[]) THEN 0
             ELSE {BILLED_ON_DEMAND}
        END AS on_demand_usd,
        CASE WHEN own.entered ->> 'running' IS NULL OR own.number > 1 AND EXISTS (
                SELECT FROM attempts earlier WHERE earlier.job_id = own.job_id
                    AND earlier.number < own.number AND earlier.entered ->> 'running' IS NOT NULL)
             THEN NULL
             ELSE greatest(0, extract(epoch FROM
                (own.entered ->> 'running')::timestamptz - found.scheduled_for))
        END::double precision AS lateness
    FROM found JOIN attempts own ON own.job_id = found.id
)
SELECT key, grouping(key) = 1 AS is_total, count(status) AS jobs, {_STATUS_COUNTS},
    count(*) AS attempts, count(*) FILTER (WHERE cause = 'interrupted') AS interruptions,
    coalesce(sum(billed_seconds), 0) AS billed_seconds,
    count(*) FILTER (WHERE instance_id IS NOT NULL AND cost_usd IS NULL) AS unknown_costs,
    CASE WHEN count(instance_id) = 0 THEN 0 ELSE sum(cost_usd) END AS cost_usd,
    CASE WHEN count(instance_id) = 0 THEN 0
         ELSE sum(CASE WHEN wasted THEN cost_usd ELSE 0 * cost_usd END)
    END AS lost_usd,
    CASE WHEN count(instance_id) = 0 THEN 0 ELSE sum(on_demand_usd - cost_usd) END AS saved_usd,
    percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY lateness) AS lateness,
    count(*) OVER () - 1 AS all_groups
FROM tries GROUP BY GROUPING SETS ((key), ())
ORDER BY is_total DESC, cost_usd DESC NULLS LAST, jobs DESC, key LIMIT $6::integer + 1
"""  # noqa: S608 - our own parts
COUNT_FINISHED = _COUNT.format(found=_OF_ALL)
COUNT_FINISHED_OF_PROJECT = _COUNT.format(found=_OF_PROJECT)

LOAD_REMOVED = f"""
SELECT * FROM ({REMOVED}) removed WHERE $3::text IS NULL OR project = $3
ORDER BY day, status, project
"""  # noqa: S608 - our own parts

LIMIT_TIME = "SELECT set_config('statement_timeout', $1::text, true)"


async def load_stats(db: Database, asked: Question, now: datetime) -> StatsAnswer:
    """Count. Raises `StatsTooLarge`."""
    try:
        # One snapshot for both statements: a job is in `jobs` or in the totals of removed ones.
        async with (
            db.connection() as conn,
            conn.transaction(isolation="repeatable_read", readonly=True),
        ):
            await conn.execute(LIMIT_TIME, str(int(SECONDS * 1000)))
            rows = await _count(conn, asked)
            removed = await conn.fetch(LOAD_REMOVED, *_days(asked), asked.project)
    except Exception as error:
        if is_cancelled(error):
            raise StatsTooLarge from error
        raise
    return _answer(asked, rows, removed, now)


async def _count(conn: Connection, asked: Question) -> list[Any]:
    sql = COUNT_FINISHED if asked.project is None else COUNT_FINISHED_OF_PROJECT
    found: list[Any] = await conn.fetch(
        sql,
        asked.since,
        asked.until,
        asked.by,
        asked.label,
        sorted(WASTED),
        MOST_GROUPS,
        asked.project,
    )
    return found


def _days(asked: Question) -> tuple[date, date]:
    """Return the first and the last day (UTC) of which a part is asked for."""
    return asked.since.date(), (asked.until - timedelta(microseconds=1)).date()


def _answer(asked: Question, rows: list[Any], removed: Iterable[Any], now: datetime) -> StatsAnswer:
    total, *groups = map(_counted, rows)
    left_out = max(0, rows[0]["all_groups"] - MOST_GROUPS)
    found = {each.key: each for each in groups}
    not_counted = 0
    for row in removed:
        if not _is_counted(asked, row["day"], now):
            not_counted += int(row["jobs"])
            continue
        more = _removed(row, str(row[asked.by]))
        total = _plus(total, more)
        known = found.get(more.key)
        found[more.key] = more if known is None else _plus(known, more)
    fields = {name: getattr(total, name) for name in Stats.__struct_fields__}
    in_order = sorted(found.values(), key=lambda each: each.key or "")
    return StatsAnswer(
        since=asked.since,
        until=asked.until,
        by=asked.by if asked.label is None else f"label:{asked.label}",
        total=Stats(**fields),
        groups=in_order if asked.by in SUMMED else list(found.values()),
        removed_jobs=not_counted,
        groups_left_out=left_out,
    )


def _is_counted(asked: Question, day: date, now: datetime) -> bool:
    """Return whether the sums of this day's removed jobs belong to the answer: to all of it."""
    begin = datetime.combine(day, time(), UTC)
    is_whole = asked.since <= begin and asked.until >= min(begin + timedelta(days=1), now)
    return is_whole and asked.by in SUMMED


def _counted(row: Any) -> StatsGroup:
    median, p95 = row["lateness"] or (None, None)
    sums: dict[str, Any] = {name: int(row[name]) for name in _COUNTS}
    sums |= {name: _rounded(row[name]) for name in _AMOUNTS}
    return StatsGroup(
        key=row["key"],
        **sums,
        lateness_median_seconds=None if median is None else round(median, 3),
        lateness_p95_seconds=None if p95 is None else round(p95, 3),
    )


def _removed(row: Any, key: str) -> StatsGroup:
    """Return the sums of a day and status; what an earlier release did not sum up is unknown."""
    jobs, status = int(row["jobs"]), row["status"]
    cost = row["cost_usd"] if row["cost_usd"] or not row["unknown_costs"] else None
    return StatsGroup(
        key=key,
        **{name: int(row[name]) for name in _REMOVED_COUNTS},
        **{each.lower(): jobs for each in ("DONE", "FAILED", "CANCELLED") if each == status},
        cost_usd=_rounded(cost),
        # Earlier releases summed up unknown amounts as 0.
        lost_usd=None if cost is None else _rounded(row["lost_usd"]),
        saved_usd=None if cost is None else _rounded(row["saved_usd"]),
    )


_REMOVED_COUNTS = ("jobs", "attempts", "interruptions", "billed_seconds", "unknown_costs")
_COUNTS = (*_REMOVED_COUNTS, "done", "failed", "cancelled")
_AMOUNTS = ("cost_usd", "lost_usd", "saved_usd")


def _plus(one: StatsGroup, more: StatsGroup) -> StatsGroup:
    """Add the sums; an amount that is unknown in one of them is the other's."""
    if one.attempts == 0:
        return msgspec.structs.replace(more, key=one.key)
    amounts = {}
    for name in _AMOUNTS:
        known = [each for each in (getattr(one, name), getattr(more, name)) if each is not None]
        amounts[name] = _rounded(sum(known)) if known else None
    counts = {name: getattr(one, name) + getattr(more, name) for name in _COUNTS}
    return msgspec.structs.replace(one, **counts, **amounts)


def _rounded(amount: Any) -> float | None:
    return rounded(None if amount is None else float(amount))  # a sum may be a Decimal
