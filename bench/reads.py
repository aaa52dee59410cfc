"""Reads, accepts and starts with 10³, 10⁵ and 10⁶ jobs waiting: they must stay as fast."""

from dataclasses import dataclass

from bench.accept import ONE
from bench.bare import BareServer, run_ceiling
from bench.client import Ask
from bench.due import AS_FAST, burst, named
from bench.report import Ceiling, Figure, Goal, at_most_of_ceiling, of_ceiling
from bench.run import Run
from bench.system import System, run_system

PART = "reads"

FILL_JOBS = """
INSERT INTO api.jobs (id, docker_image, env_vars, labels, scheduled_for, timezone, status, attempt,
    trace, created_at)
SELECT n, 'alpine:3.20', '{"KEY": "VALUE"}',
    CASE WHEN n % 10 = 0 THEN '{"team": "data"}' ELSE '{}' END::jsonb,
    now() + interval '300 days', 'UTC', 'SCHEDULED', 1, gen_random_uuid()::text, now()
FROM generate_series($1::bigint, $2::bigint) AS n
"""
FILL_ATTEMPTS = """
INSERT INTO api.attempts (job_id, number, state, due_at, entered)
SELECT id, 1, 'scheduled', scheduled_for, jsonb_build_object('scheduled', created_at)
FROM api.jobs WHERE id BETWEEN $1 AND $2
"""
FILL_TIMERS = """
INSERT INTO scheduler.timers (job_id, attempt, state, due_at, requirements, trace)
SELECT id, 1, 'waiting', scheduled_for, '{"max_lifetime_seconds": 86400, "labels": {}}', trace
FROM api.jobs WHERE id BETWEEN $1 AND $2
"""
SOME = "SELECT id FROM api.jobs ORDER BY random() LIMIT 1000"
NEXT_ID = "SELECT setval(pg_get_serial_sequence('api.jobs', 'id'), $1)"


@dataclass(frozen=True)
class Work:
    """The figures with the few jobs of the first size, as ceilings for the others."""

    accepted: Ceiling
    fired_late: Ceiling


async def measure(run: Run) -> None:
    """Measure each size in turn, in one growing system."""
    sizes = (1000, 10_000) if run.quick else (1000, 100_000, 1_000_000)
    few: Work | None = None
    async with run_system(run.servers) as system, run_ceiling(system.database_url) as bare:
        for size in sizes:
            run.log(f"reads: filling up to {size:,} jobs")
            await _fill(system, size)
            await _read(run, system, bare, size)
            work = await _work(run, system, size, few)
            few = few or work
        run.keep_peaks(named(system.peak_bytes))


async def _fill(system: System, size: int) -> None:
    newest = await system.count("SELECT max(id) FROM api.jobs")
    while newest < size:
        upto = min(size, newest + 100_000)
        for statement in (FILL_JOBS, FILL_ATTEMPTS, FILL_TIMERS):
            await system.admin.execute(statement, newest + 1, upto)
        newest = upto
    await system.admin.execute(NEXT_ID, newest)
    await system.admin.execute(
        "VACUUM ANALYZE api.jobs, api.job_labels, api.attempts, scheduler.timers"
    )


async def _read(run: Run, system: System, bare: BareServer, size: int) -> None:
    seconds = run.pick(4, 1.5)
    some = await system.admin.fetch(SOME)
    status = Ask(kind="status", method="GET", paths=[f"/status/{row['id']}" for row in some])
    page = Ask(kind="list", method="GET", paths=["/list?limit=100"])
    found = Ask(
        kind="list",
        method="GET",
        paths=["/list?limit=100&status=SCHEDULED&label=team:data"],  # a tenth of them
    )
    goals: tuple[Goal, ...] = (of_ceiling(0.5),)
    for name, ask, clients in (
        ("/status", status, 32),
        ("/list, 100 a page", page, 8),
        ("/list by status and label, 100 a page", found, 8),
    ):
        before = await bare.load(clients, seconds / 2, ask)
        ours = await system.load(clients, seconds, ask)
        after = await bare.load(clients, seconds / 2, ask)
        taken = ours.kinds[ask.kind]
        run.add(
            Figure(
                part=PART,
                name=f"{name}, {size:,} jobs, {clients} clients",
                value=ours.rate,
                unit="answers/s",
                ceiling=Ceiling("bare select", (before.rate + after.rate) / 2),
                goals=goals,
                detail={"p50_ms": taken.p50_ms, "p99_ms": taken.p99_ms},
            )
        )


async def _work(run: Run, system: System, size: int, few: Work | None) -> Work:
    """Measure accepting and starting jobs, against the figures with *few* jobs."""
    ours = await system.load(32, run.pick(3, 1), ONE)
    await system.settled()
    taken = ours.kinds["accept"]
    run.add(
        Figure(
            part=PART,
            name=f"accept one job a request, 32 clients, {size:,} jobs waiting",
            value=ours.rate,
            unit="jobs/s",
            ceiling=few.accepted if few else None,
            goals=(of_ceiling(1 / AS_FAST),) if few else (),
            detail={"p50_ms": taken.p50_ms, "p99_ms": taken.p99_ms},
        )
    )
    goals = (at_most_of_ceiling(AS_FAST),) if few else ()
    against = few.fired_late if few else None
    late = await burst(run, system, 1000, f"{size:,} waiting", against, goals)
    name = f"with {size:,} waiting"
    return Work(Ceiling(name, ours.rate), Ceiling(name, late))
