"""Daily totals of finished jobs and their cost, those of removed jobs included: SQL and value."""

from collections.abc import Sequence
from datetime import date
from typing import Literal

from msgspec import Struct

from services.api.jobs.costs import WASTED
from shared.events.requirements import DEFAULT_PROJECT
from shared.postgres.pool import Connection, Transaction


class DayTotal(Struct, frozen=True):
    """The jobs that finished on one day (UTC) with one status, and what their attempts cost.

    `unknown_costs` counts the attempts with an instance whose cost is not known; `cost_usd` is the
    sum of the others, and None if that is all of them.
    """

    day: date
    status: Literal["CANCELLED", "DONE", "FAILED"]
    jobs: int
    attempts: int
    interruptions: int
    billed_seconds: int
    cost_usd: float | None
    unknown_costs: int


_SUMS = ("jobs", "attempts", "interruptions", "billed_seconds", "cost_usd", "unknown_costs")

# One row an attempt, and each job has one with number 1. Sums of numeric are exact, so they do not
# depend on when which job was removed.
_SUMMED = """
    count(*) FILTER (WHERE number = 1) AS jobs, count(*) AS attempts,
    count(*) FILTER (WHERE cause = 'interrupted') AS interruptions,
    coalesce(sum(billed_seconds), 0) AS billed_seconds,
    coalesce(sum(cost_usd::numeric), 0) AS cost_usd,
    count(*) FILTER (WHERE instance_id IS NOT NULL AND cost_usd IS NULL) AS unknown_costs
"""
_OF_JOBS = f"""
SELECT (jobs.finished_at AT TIME ZONE 'UTC')::date AS day, jobs.status, {_SUMMED},
    max(jobs.id) AS last_job_id
FROM jobs JOIN attempts ON attempts.job_id = jobs.id
"""  # noqa: S608 - our own expressions

ADD_TOTALS = f"""
INSERT INTO daily_totals (day, status, {", ".join(_SUMS)}, last_job_id)
SELECT day, status, {", ".join(_SUMS)}, last_job_id
FROM ({_OF_JOBS} WHERE jobs.id = ANY ($1::bigint[]) GROUP BY 1, 2) AS new
ORDER BY day, status
ON CONFLICT (day, status) DO UPDATE SET
    {", ".join(f"{name} = daily_totals.{name} + excluded.{name}" for name in _SUMS)},
    last_job_id = greatest(daily_totals.last_job_id, excluded.last_job_id)
"""  # noqa: S608 - our own names


BILLED_ON_DEMAND = """(billed_seconds * on_demand_hourly_price_usd / 3600
    + CASE WHEN cost_lines IS NULL THEN 0
           ELSE cost_usd - (cost_lines ->> 'instance_usd')::double precision END)"""
"""What an attempt would cost on demand, to compare with its cost: address and volume cost the same.
Without lines it is a cost of an earlier release, which is that of the instance alone.
"""

# As in `costs.py` and `stats.py`: attempts whose cost or on-demand price is not known are left out.
_SAVINGS = f"""
CASE WHEN count(instance_id) = 0 THEN 0
     ELSE sum((CASE WHEN cause = ANY ($2::text[]) THEN 1 ELSE 0 END * cost_usd)::numeric)
END AS lost_usd,
CASE WHEN count(instance_id) = 0 THEN 0
     ELSE sum((CASE WHEN cause = ANY ($2::text[]) THEN 0
               ELSE {BILLED_ON_DEMAND} END - cost_usd)::numeric)
END AS saved_usd
"""


def _added(table: str, name: str) -> str:
    """Return an amount of *table* with that of a new row added; NULL if neither is known."""
    return (
        f"""{name} = coalesce({table}.{name} + excluded.{name}, {table}.{name}, excluded.{name})"""
    )


ADD_SAVINGS = f"""
INSERT INTO daily_savings (day, status, lost_usd, saved_usd)
SELECT (jobs.finished_at AT TIME ZONE 'UTC')::date, jobs.status, {_SAVINGS}
FROM jobs JOIN attempts ON attempts.job_id = jobs.id
WHERE jobs.id = ANY ($1::bigint[]) GROUP BY 1, 2 ORDER BY 1, 2
ON CONFLICT (day, status) DO UPDATE SET
    {_added("daily_savings", "lost_usd")}, {_added("daily_savings", "saved_usd")}
"""  # noqa: S608 - our own expression

ADD_PROJECT_TOTALS = f"""
INSERT INTO project_totals (day, status, project, {", ".join(_SUMS)}, lost_usd, saved_usd)
SELECT (jobs.finished_at AT TIME ZONE 'UTC')::date, jobs.status, jobs.project,
    {_SUMMED}, {_SAVINGS}
FROM jobs JOIN attempts ON attempts.job_id = jobs.id
WHERE jobs.id = ANY ($1::bigint[]) AND jobs.project <> $3
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
ON CONFLICT (day, status, project) DO UPDATE SET
    {", ".join(f"{name} = project_totals.{name} + excluded.{name}" for name in _SUMS)},
    {_added("project_totals", "lost_usd")}, {_added("project_totals", "saved_usd")}
"""  # noqa: S608 - our own names


async def add_totals(tx: Transaction, job_ids: Sequence[int]) -> None:
    """Add finished jobs, which are locked, to the totals of removed jobs."""
    await tx.conn.execute(ADD_TOTALS, job_ids)
    await tx.conn.execute(ADD_SAVINGS, job_ids, sorted(WASTED))
    await tx.conn.execute(ADD_PROJECT_TOTALS, job_ids, sorted(WASTED), DEFAULT_PROJECT)


_AMOUNTS = ("lost_usd", "saved_usd")
REMOVED = f"""
SELECT day, status, project, {", ".join((*_SUMS, *_AMOUNTS))}
FROM project_totals WHERE day BETWEEN $1 AND $2
UNION ALL
SELECT day, status, '{DEFAULT_PROJECT}',
    {", ".join(f"every.{name} - coalesce(others.{name}, 0)" for name in (*_SUMS, *_AMOUNTS))}
FROM (SELECT * FROM daily_totals LEFT JOIN daily_savings USING (day, status)
      WHERE day BETWEEN $1 AND $2) every
LEFT JOIN (SELECT day, status, {", ".join(f"sum({name}) AS {name}" for name in (*_SUMS, *_AMOUNTS))}
    FROM project_totals WHERE day BETWEEN $1 AND $2 GROUP BY day, status) others
    USING (day, status)
WHERE every.jobs > coalesce(others.jobs, 0)
"""  # noqa: S608 - our own names
"""The sums of removed jobs from day $1 to day $2, by day, status and project.

`project_totals` has those of all projects but `default`, whose sums are the rest of all.
"""


_IN_DAYS = """
jobs.finished_at >= ($1::date)::timestamp AT TIME ZONE 'UTC'
AND jobs.finished_at < ($2::date + 1)::timestamp AT TIME ZONE 'UTC'
"""
# Rows are compared, so that the index of the project's finished jobs fits best.
_OF_PROJECT_IN_DAYS = """
(jobs.project, jobs.finished_at) >= ($3, ($1::date)::timestamp AT TIME ZONE 'UTC')
AND (jobs.project, jobs.finished_at) < ($3, ($2::date + 1)::timestamp AT TIME ZONE 'UTC')
"""
# One statement reads one snapshot: a job is in the totals or in `jobs`, never in both.
LOAD_TOTALS = f"""
SELECT day, status, {", ".join(f"sum({name}) AS {name}" for name in _SUMS)}
FROM (
    SELECT * FROM daily_totals WHERE day BETWEEN $1 AND $2
    UNION ALL
    SELECT day, status, {", ".join(_SUMS)}, last_job_id FROM ({_OF_JOBS}
        WHERE jobs.finished_at IS NOT NULL AND jobs.logs_removed_at IS NULL AND {_IN_DAYS}
        GROUP BY 1, 2) AS with_logs
    UNION ALL
    SELECT day, status, {", ".join(_SUMS)}, last_job_id FROM ({_OF_JOBS}
        WHERE jobs.logs_removed_at IS NOT NULL AND {_IN_DAYS}
        GROUP BY 1, 2) AS without_logs
) AS every
GROUP BY day, status ORDER BY day, status
"""  # noqa: S608 - our own names


LOAD_PROJECT_TOTALS = f"""
SELECT day, status, {", ".join(f"sum({name}) AS {name}" for name in _SUMS)}
FROM (
    SELECT day, status, {", ".join(_SUMS)} FROM ({REMOVED}) AS removed WHERE project = $3
    UNION ALL
    SELECT day, status, {", ".join(_SUMS)} FROM ({_OF_JOBS}
        WHERE jobs.finished_at IS NOT NULL AND {_OF_PROJECT_IN_DAYS}
        GROUP BY 1, 2) AS kept
) AS every
GROUP BY day, status ORDER BY day, status
"""  # noqa: S608 - our own names


async def load_totals(
    conn: Connection, first: date, last: date, project: str | None = None
) -> list[DayTotal]:
    """Load the totals of the days from *first* to *last*, in order; days without jobs are left out.

    They count all jobs, or those of *project*, that finished on these days, removed or not.
    """
    if project is None:
        rows = await conn.fetch(LOAD_TOTALS, first, last)
    else:
        rows = await conn.fetch(LOAD_PROJECT_TOTALS, first, last, project)
    return [_as_total(row["day"], row["status"], row) for row in rows]


def _as_total(day: date, status: Literal["CANCELLED", "DONE", "FAILED"], row: object) -> DayTotal:
    numbers = {name: row[name] for name in _SUMS}  # type: ignore[index]
    counts = {name: int(value) for name, value in numbers.items() if name != "cost_usd"}
    known = float(numbers["cost_usd"]) or not counts["unknown_costs"]
    cost = float(numbers["cost_usd"]) if known else None
    return DayTotal(day=day, status=status, cost_usd=cost, **counts)
