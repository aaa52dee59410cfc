"""The API and firing right after a bulk load of 10⁶ finished jobs, against a system with 10³.

Both systems run on the same servers and are measured in turn, so each ratio depends on the number
of rows alone. Nothing is vacuumed or analyzed after the load but what autovacuum does by itself.
"""

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from statistics import median
from typing import TypeAlias

from bench.accept import ONE
from bench.client import Ask
from bench.due import AS_FAST, until_due
from bench.report import Ceiling, Figure, Goal, at_most_of_ceiling, of_ceiling
from bench.run import Run, percentile
from bench.system import System, run_system

PART = "growth"
CLIENTS, ROUNDS, FIRED = 8, 5, 1000
LOADED_AT_ONCE = 100_000

JOBS = """
INSERT INTO api.jobs (id, docker_image, env_vars, labels, scheduled_for, timezone, status, attempt,
    exit_code, trace, created_at, finished_at)
SELECT n, 'alpine:3.20', '{"KEY": "VALUE"}',
    jsonb_build_object('team', 'team-' || n % 10, 'batch', (n / 100)::text),
    at, 'UTC', CASE WHEN n % 10 = 0 THEN 'FAILED' ELSE 'DONE' END, 1,
    0, gen_random_uuid()::text, at, at
FROM (SELECT n, now() - (1000000 - n) * interval '1 second' AS at
      FROM generate_series($1::bigint, $2::bigint) AS n) AS new
"""
ATTEMPTS = """
INSERT INTO api.attempts (job_id, number, state, due_at, entered, token_hash, instance_id, cause,
    ended_at, container_stopped, instance_gone_at, billed_seconds, cost_usd)
SELECT id, 1, 'ended', created_at, jsonb_build_object('scheduled', created_at),
    sha256(id::text::bytea), 'i-' || id, 'done', finished_at, true, finished_at, 60, 0.001
FROM api.jobs WHERE id BETWEEN $1 AND $2
"""
LOGS = """
INSERT INTO api.log_batches (job_id, attempt, seq, lines)
SELECT n, 1, 1, '[["2026-01-01T00:00:00Z", "stdout", "hello"]]'
FROM generate_series($1::bigint, $2::bigint) AS n
"""
TIMERS = """
INSERT INTO scheduler.timers (job_id, attempt, state, due_at, requirements, trace, settled_at)
SELECT n, 1, 'fired', now(), '{"max_lifetime_seconds": 86400}', '', now()
FROM generate_series($1::bigint, $2::bigint) AS n
"""
LAUNCHES = """
INSERT INTO launcher.launches (job_id, attempt, state, requirements, trace, launch_token, params,
    asked_at, told, instance_id, launched_at, settled_at)
SELECT n, 1, 'launched', '{}', '', n, '{}', now(), n, 'i-' || n, now(), now()
FROM generate_series($1::bigint, $2::bigint) AS n
"""
INSTANCES = """
INSERT INTO reaper.instances (instance_id, job_id, attempt, launch_token, trace, state, market,
    launched_at, dies_by, end_cause, terminated_at, billed_seconds, settled_at)
SELECT 'i-' || n, n, 1, n, '', 'terminated', 'spot', now(), now(), 'done', now(), 60, now()
FROM generate_series($1::bigint, $2::bigint) AS n
"""
ENDED = """
INSERT INTO reaper.ended_attempts (job_id, attempt, cause, ended_at, terminate_after)
SELECT n, 1, 'done', now(), now() FROM generate_series($1::bigint, $2::bigint) AS n
"""
INBOX = """
INSERT INTO {service}.inbox (event_id, name, handled_at) SELECT gen_random_uuid(), 'Loaded', now()
FROM generate_series($1::bigint, $2::bigint) AS n
"""
SERVICES = ("api", "scheduler", "launcher", "reaper")
LOADS = (
    *(JOBS, ATTEMPTS, LOGS, TIMERS, LAUNCHES, INSTANCES, ENDED),
    *(INBOX.format(service=each) for each in SERVICES),
)
NEXT_ID = "SELECT setval(pg_get_serial_sequence('api.jobs', 'id'), $1)"
HANDLED_SINCE = """
SELECT pg_xact_commit_timestamp(xmin) AS at FROM launcher.inbox
WHERE name = 'InstanceRequested' AND handled_at >= $1
"""
HANDLED_COUNT = "SELECT count(*) FROM ({since}) AS handled"

PATHS = {
    "/list": "/list?limit=100",
    "/list by status": "/list?limit=100&status=FAILED",
    "/list by a status that no job has": "/list?limit=100&status=RUNNING",
    "/list by a label of a tenth": "/list?limit=100&label=team:team-3",
    "/list by a label of a hundred": "/list?limit=100&label=batch:7",
    "/list by status and two labels": "/list?status=DONE&label=team:team-3&label=batch:7",
}


Rounds: TypeAlias = tuple[list[float], list[float]]
"""What was measured in each round, of the few and of the many."""


@dataclass(frozen=True)
class Pair:
    """Two systems that differ in the number of finished jobs alone."""

    few: System
    many: System
    sizes: tuple[int, int]


async def measure(run: Run) -> None:
    """Load both systems, then measure them in turn."""
    sizes = (1000, int(run.pick(1_000_000, 100_000)))
    async with contextlib.AsyncExitStack() as stack:
        few, many = [await stack.enter_async_context(run_system(run.servers)) for _ in sizes]
        pair = Pair(few, many, sizes)
        for system, size in zip((few, many), sizes, strict=True):
            run.log(f"growth: loading {size:,} finished jobs")
            await _load(system, size)
        # First what a full table's missing vacuum and statistics would slow down.
        for name, path in PATHS.items():
            await _rates(run, pair, name, Ask(kind="list", method="GET", paths=[path]))
        await _rates(run, pair, "accept one job a request", ONE)
        await _firing(run, pair)


async def _load(system: System, size: int) -> None:
    for first in range(1, size + 1, LOADED_AT_ONCE):
        for statement in LOADS:
            await system.admin.execute(statement, first, min(size, first + LOADED_AT_ONCE - 1))
    await system.admin.execute(NEXT_ID, size)


async def _rates(run: Run, pair: Pair, name: str, ask: Ask) -> None:
    """Measure the rate of one kind of request on both systems, in turn."""
    seconds = run.pick(3, 1)

    async def rate(system: System) -> float:
        return (await system.load(CLIENTS, seconds, ask)).kinds[ask.kind].rate

    rounds = await in_turn(pair, rate)
    goal = of_ceiling(1 / AS_FAST)
    add_pair(run, pair, PART, f"{name}, {CLIENTS} clients", rounds, "answers/s", goal)


async def _firing(run: Run, pair: Pair) -> None:
    """Measure the launcher's lateness for jobs due at one time, on both systems in turn."""
    rounds = await in_turn(pair, _fire)
    name = f"{FIRED:,} due at once, until the launcher has each, p99"
    add_pair(run, pair, PART, name, rounds, "s", at_most_of_ceiling(AS_FAST))


async def in_turn(pair: Pair, measured: Callable[[System], Awaitable[float]]) -> Rounds:
    """Return what is *measured* of both systems, which alternate in going first."""
    few: list[float] = []
    many: list[float] = []
    for number in range(ROUNDS):
        turn = [(pair.few, few), (pair.many, many)]
        for system, found in turn if number % 2 == 0 else reversed(turn):
            found.append(await measured(system))
    return few, many


async def _fire(system: System) -> float:
    due_at = await until_due(system, FIRED)
    counted = HANDLED_COUNT.format(since=HANDLED_SINCE.replace("$1", f"'{due_at.isoformat()}'"))
    await system.until(counted, FIRED, seconds=120, every=0.25)
    rows = await system.admin.fetch(HANDLED_SINCE, due_at)
    return percentile([(row["at"] - due_at).total_seconds() for row in rows], 0.99)


def add_pair(
    run: Run,
    pair: Pair,
    part: str,
    name: str,
    rounds: Rounds,
    unit: str,
    goal: Goal,
    of: Callable[[list[float]], float] = median,
) -> None:
    """Add the median of the rounds, or another value *of* them, with all of them as details."""
    small, large = pair.sizes
    few, many = rounds
    detail = {f"{small}_{number}": value for number, value in enumerate(few, 1)}
    detail |= {f"{large}_{number}": value for number, value in enumerate(many, 1)}
    run.add(
        Figure(
            part=part,
            name=f"{name}, {large:,} finished jobs",
            value=of(many),
            unit=unit,
            ceiling=Ceiling(f"that with {small:,}", of(few)),
            goals=(goal,),
            detail=detail,
        )
    )
