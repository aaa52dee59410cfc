"""`/list` with each filter and with several, at 10⁶ finished jobs against 10⁴.

Right after a bulk load, with no vacuum or analyze but autovacuum's own. Both systems run on the
same servers and are asked in turn, one request at a time, so each ratio depends on the number of
jobs alone. A filter finds as many jobs in both.
"""

import contextlib

from bench.client import Ask
from bench.due import AS_FAST
from bench.growth import ATTEMPTS, LOADED_AT_ONCE, NEXT_ID, Pair, add_pair, in_turn
from bench.report import at_most, at_most_of_ceiling
from bench.run import Run
from bench.system import System, run_system

PART = "lists"
SEARCH_MS = 50
"""The longest time of a page whose search ends at its bound, since nearly no job matches."""

JOBS = """
INSERT INTO api.jobs (id, name, docker_image, env_vars, labels, scheduled_for, timezone, status,
    attempt, exit_code, trace, created_at, finished_at, logs_removed_at)
SELECT n, 'nightly-' || n % ($3::bigint / 100),
    CASE WHEN n % ($3::bigint / 100) = 7 THEN 'acme/rare:1' ELSE 'acme/app:' || n % 10 END,
    '{"KEY": "VALUE"}', jsonb_build_object('team', 'team-' || n % 10, 'batch', (n / 100)::text),
    at, 'UTC', CASE WHEN n % ($3::bigint / 100) = 5 THEN 'CANCELLED' WHEN n % 10 = 0 THEN 'FAILED'
                    ELSE 'DONE' END, 1, 0, gen_random_uuid()::text, at,
    at + (n % 100) * interval '1 second',
    CASE WHEN n < $3::bigint / 2 THEN at + interval '1 day' END
FROM (SELECT n, now() - ($3::bigint - n) * interval '1 second' AS at
      FROM generate_series($1::bigint, least($2::bigint, $3::bigint)) AS n) AS new
"""

FOUND = {
    "no filter": "",
    "a status": "status=FAILED",
    "a status of a hundred": "status=CANCELLED",
    "several statuses": "status=FAILED,CANCELLED",
    "a label of a tenth": "label=team:team-3",
    "a label of a hundred": "label=batch:7",
    "a name": "name=nightly-3",
    "a name that no job has": "name=nowhere",
    "an image of a tenth": "image=acme/app:3",
    "an image of a hundred": "image=acme/rare:1",
    "an image that no job has": "image=nowhere",
    "a name and a status": "name=nightly-3&status=DONE",
    "an image of a tenth and its label": "image=acme/app:3&label=team:team-3",
    "an image of a hundred and its label": "image=acme/rare:1&label=team:team-7",
    "an image of a hundred and a label that none has": "image=acme/rare:1&label=team:team-3",
    "the last hour": "since=1h",
    "until two hours ago": "until=2h",
    "an hour, and a status": "since=2h&until=1h&status=FAILED",
    "a time before all": "until=999d",
    "a text of a tenth": "q=APP:3",
    "a text, and a label of a hundred": "q=nowhere&label=batch:7",
    "by finish": "by=finished",
    "by finish until two hours ago": "by=finished&until=2h",
    "by finish, a status": "by=finished&status=FAILED",
}
SEARCHED = {
    "a text that no job has": "q=nowhere",
    "… and a label of a tenth": "q=nowhere&label=team:team-3",
    "a label and a status that no job has both of": "label=team:team-3&status=FAILED",
    "an image and a status that no job has both of": "image=acme/app:3&status=FAILED",
    "by finish, a name": "by=finished&name=nightly-3",
    "by finish, a status that no job has": "by=finished&status=RUNNING",
}


async def measure(run: Run) -> None:
    """Load both systems, then ask them in turn."""
    sizes = (10_000, int(run.pick(1_000_000, 100_000)))
    async with contextlib.AsyncExitStack() as stack:
        few, many = [await stack.enter_async_context(run_system(run.servers)) for _ in sizes]
        for system, size in zip((few, many), sizes, strict=True):
            run.log(f"lists: loading {size:,} finished jobs")
            await _load(system, size)
        pair = Pair(few, many, sizes)
        for name, query in FOUND.items():
            await _pages(run, pair, name, query, bounded=False)
        for name, query in SEARCHED.items():
            await _pages(run, pair, name, query, bounded=True)


async def _load(system: System, size: int) -> None:
    for first in range(1, size + 1, LOADED_AT_ONCE):
        last = first + LOADED_AT_ONCE - 1
        await system.admin.execute(JOBS, first, last, size)
        await system.admin.execute(ATTEMPTS, first, last)
    await system.admin.execute(NEXT_ID, size)


async def _pages(run: Run, pair: Pair, name: str, query: str, *, bounded: bool) -> None:
    """Measure the time of a page of 100."""
    ask = Ask(kind="list", method="GET", paths=[f"/list?limit=100&{query}".rstrip("&")])

    async def milliseconds(system: System) -> float:
        return (await system.load(1, run.pick(0.5, 0.3), ask)).kinds[ask.kind].p50_ms

    few, many = await in_turn(pair, milliseconds)
    goal = at_most(SEARCH_MS) if bounded else at_most_of_ceiling(AS_FAST)
    add_pair(run, pair, PART, f"/list, {name}", few, many, "ms", goal)
