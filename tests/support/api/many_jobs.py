"""Many finished and waiting jobs, made in the database, and how Postgres reads a page of them."""

import json
from typing import Any

from shared.postgres.pool import connect
from tests.support.api.api_world import World

# What a plain formatting would take for its own is doubled.
FILL = """
INSERT INTO api.jobs (name, docker_image, env_vars, labels, scheduled_for, timezone, status,
                      attempt, trace, created_at, finished_at, logs_removed_at, project)
SELECT CASE WHEN n % 2 = 1 THEN 'job ' || n % 100 END,
       CASE WHEN n % 1000 = 1 THEN 'rare' ELSE 'alpine' END, '{{"KEY": "VALUE"}}',
       CASE WHEN n % 1000 = 0 THEN '{{"team": "rare"}}'
            WHEN n % 2 = 0 THEN '{{"team": "many"}}' ELSE '{{}}' END::jsonb,
       at, 'UTC', CASE WHEN n % 500 = 0 THEN 'RUNNING' WHEN n % 10 = 0 THEN 'SCHEDULED'
                       ELSE 'DONE' END, 1, 'trace', at,
       CASE WHEN n % 10 = 0 THEN NULL ELSE at + interval '1 minute' END,
       CASE WHEN n % 10 <> 0 AND n < {count} / 2 THEN at + interval '1 day' END,
       CASE WHEN n % 1000 = 1 THEN 'rare' ELSE 'many' END
FROM (SELECT n, '2026-01-01T00:00:00Z'::timestamptz + n * interval '1 second' AS at
      FROM generate_series(1, {count}) n) numbers;
INSERT INTO api.attempts (job_id, number, state, due_at, entered, ended_at, cause)
SELECT id, 1, CASE WHEN finished_at IS NULL THEN 'scheduled' ELSE 'ended' END, now(),
       '{{"scheduled": "2026-01-01T00:00:00Z"}}', finished_at,
       CASE WHEN finished_at IS NULL THEN NULL ELSE 'done' END
FROM api.jobs;
"""
ANALYZE = "ANALYZE api.jobs, api.job_labels, api.attempts"
BELIEVED = f"""
ALTER TABLE api.jobs SET (autovacuum_enabled = off);
ALTER TABLE api.job_labels SET (autovacuum_enabled = off);
INSERT INTO api.jobs (docker_image, env_vars, labels, scheduled_for, timezone, status, attempt,
                      trace, created_at)
SELECT 'alpine', '{{}}', '{{"team": "rare"}}', now(), 'UTC', 'SCHEDULED', 1, 'trace', now()
FROM generate_series(1, 1000);
{ANALYZE};
DELETE FROM api.jobs;
DELETE FROM api.job_labels;
"""  # noqa: S608 - our own words
"""Makes Postgres assume 1,000 waiting jobs, all with the one label that few have then."""


async def fill(database_url: str, count: int) -> None:
    """Make so many jobs, one accepted each second, and tell the planner."""
    conn = await connect(database_url)
    await conn.execute(FILL.format(count=count))
    await conn.execute(ANALYZE)
    await conn.close()


async def fill_unexpectedly(database_url: str, count: int) -> None:
    """Make so many jobs, of which the planner knows nothing."""
    conn = await connect(database_url)
    await conn.execute(BELIEVED)
    await conn.execute(FILL.format(count=count))
    await conn.close()


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a plan and all that is below it."""
    return [plan, *(each for child in plan.get("Plans", []) for each in nodes(child))]


async def plan_of(world: World, sql: str, *args: Any, mode: str) -> list[dict[str, Any]]:
    """Run a statement; return the nodes of its plan."""
    async with world.ports.db.connection() as conn, conn.transaction():
        await conn.execute(f"SET LOCAL plan_cache_mode = {mode}")
        text = await conn.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", *args)
    return nodes(json.loads(text)[0]["Plan"])


async def rows_read(world: World, mode: str, sql: str, *args: Any) -> int:
    """Return how many rows the busiest node of the plan has read."""
    plan = await plan_of(world, sql, *args, mode=mode)
    scans = [node["Node Type"] for node in plan if "Scan" in node["Node Type"]]
    assert "Seq Scan" not in scans, (args, scans)
    read: int = max(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for node in plan
    )
    return read
