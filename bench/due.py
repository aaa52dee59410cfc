"""The lateness of due jobs: 10,000 in the same second, and one alone on an idle system.

A launcher has handled an `InstanceRequested` when the transaction with its inbox row has committed;
the time comes from the server (track_commit_timestamp).
"""

import asyncio
import json
from datetime import UTC, datetime, timedelta

from bench.cpu import us_a_job
from bench.peer import PLACES
from bench.report import Ceiling, Figure, Goal, at_most, at_most_of_ceiling
from bench.run import Run, percentile
from bench.servers import checkpoint, fresh_database
from bench.system import System, run_system

PART = "due"
CLOUD_HOLDER = "launcher and the virtual cloud of all instances"
ARRAY = 1000
SPACING_SECONDS = 0.13
BURSTS = 3
GOALS = (at_most_of_ceiling(0.5), at_most(1, aside=True))
AS_FAST = 1.2
"""The ratio that counts as equally fast: the figures vary that much by themselves."""

HANDLED_COUNT = "SELECT count(*) FROM launcher.inbox WHERE name = 'InstanceRequested'"
HANDLED_AT = """
SELECT pg_xact_commit_timestamp(xmin) AS at FROM launcher.inbox
WHERE name = 'InstanceRequested' AND handled_at >= $1
"""
CALLED_AT = "SELECT job_id, launched_at FROM launcher.launches WHERE job_id > $1 ORDER BY job_id"
LAUNCHED = "SELECT count(*) FROM launcher.launches WHERE state = 'launched'"
FIRED_AT = "SELECT max(settled_at) FROM scheduler.timers WHERE state = 'fired'"
KNOWN = "SELECT count(*) FROM api.attempts WHERE state = 'booting'"


async def measure(run: Run) -> None:
    """Measure the peer, the idle system, and bursts, each of which adds 10,000 instances."""
    jobs = int(run.pick(10_000, 1000))
    peer = await _peer(run, jobs)
    async with run_system(run.servers) as system:
        await _idle(run, system, int(run.pick(100, 20)))
        p99s = [
            await burst(run, system, jobs, f"burst {number} on one system", peer, GOALS)
            for number in range(1, BURSTS + 1)
        ]
        run.keep_peaks(named(system.peak_bytes))
    run.add(
        Figure(
            part=PART,
            name=f"{jobs:,} due at once, burst {BURSTS} of the first, p99",
            value=p99s[-1],
            unit="s",
            ceiling=Ceiling("burst 1", p99s[0]),
            goals=(at_most_of_ceiling(AS_FAST),),
        )
    )


async def _peer(run: Run, jobs: int) -> Ceiling | None:
    """Measure the peer's p99 lateness for as many jobs, due at several places in its poll."""
    if run.peer is None:
        return None
    late: list[float] = []
    detail = {}
    for place in PLACES:
        await checkpoint(run.servers)
        async with fresh_database(run.servers) as url:
            found = await run.peer.lateness(url, jobs, place)
        detail[f"p99_seconds_at_{place:g}_of_its_poll"] = percentile(found, 0.99)
        late += found
    late.sort()
    run.lateness[f"{jobs:,} due at once, {run.peer.name}"] = late
    p99 = percentile(late, 0.99)
    run.add(
        Figure(
            part=PART,
            name=f"{jobs:,} due at once, {run.peer.name}, p99",
            value=p99,
            unit="s",
            detail=detail
            | {
                "p50_seconds": percentile(late, 0.5),
                "first_seconds": late[0],
                "last_seconds": late[-1],
            },
        )
    )
    return Ceiling(run.peer.name, p99)


def named(peaks: dict[str, int]) -> dict[str, int]:
    """Rename the launcher's process, which also holds the virtual cloud and its instances."""
    return {CLOUD_HOLDER if name == "launcher" else name: held for name, held in peaks.items()}


def job_array(due: list[datetime]) -> bytes:
    """Return the body of a request for jobs that are due at these times."""
    return json.dumps(
        [{"docker_image": "alpine:3.20", "scheduled_for": each.isoformat()} for each in due]
    ).encode()


async def _idle(run: Run, system: System, jobs: int) -> None:
    newest = await system.count("SELECT max(id) FROM api.jobs")
    first = datetime.now(UTC) + timedelta(seconds=2)
    due = [first + timedelta(seconds=SPACING_SECONDS * place) for place in range(jobs)]
    await system.accept(job_array(due))
    await system.until(LAUNCHED, jobs, seconds=SPACING_SECONDS * jobs + 30)
    rows = await system.admin.fetch(CALLED_AT, newest)
    late = [
        1000 * (row["launched_at"] - at).total_seconds() for row, at in zip(rows, due, strict=True)
    ]
    run.add(
        Figure(
            part=PART,
            name="one job due on an idle system, until the launch call leaves, p99",
            value=percentile(late, 0.99),
            unit="ms",
            goals=(at_most(50),),
            detail={"p50_ms": percentile(late, 0.5), "max_ms": max(late), "jobs": jobs},
        )
    )


async def until_due(system: System, jobs: int) -> datetime:
    """Have *jobs* accepted and scheduled well before they are due; return when they are due."""
    due_at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=5 + jobs / 1000)
    for _ in range(jobs // ARRAY):
        await system.accept(job_array([due_at] * ARRAY))
    await system.settled()
    early = (due_at - datetime.now(UTC)).total_seconds()
    if early < 0.5:
        raise RuntimeError(f"{jobs} jobs took until {-early:.1f} s after they were due to accept")
    await asyncio.sleep(early)
    return due_at


async def burst(
    run: Run,
    system: System,
    jobs: int,
    name: str,
    against: Ceiling | None = None,
    goals: tuple[Goal, ...] = (),
) -> float:
    """Measure the launcher's lateness for *jobs* due at one time; return the p99, in seconds."""
    before, launched = await system.count(HANDLED_COUNT), await system.count(LAUNCHED)
    due_at = await until_due(system, jobs)
    cpu = system.meter.read()
    await system.until(HANDLED_COUNT, before + jobs, seconds=120, every=0.25)
    cpu_us = us_a_job(cpu, system.meter.read(), jobs)
    rows = await system.admin.fetch(HANDLED_AT, due_at)
    late = sorted((row["at"] - due_at).total_seconds() for row in rows)
    fired_at = await system.admin.fetchval(FIRED_AT)
    await system.until(LAUNCHED, launched + jobs, seconds=120)
    await system.until(KNOWN, launched + jobs, seconds=120)
    whole = (datetime.now(UTC) - due_at).total_seconds()
    run.lateness[f"{jobs:,} due at once, {name}"] = late
    run.add(
        Figure(
            part=PART,
            name=f"{jobs:,} due at once, until the launcher has each, p99 ({name})",
            value=percentile(late, 0.99),
            unit="s",
            ceiling=against,
            goals=goals,
            cpu_us=cpu_us,
            detail={
                "p50_seconds": percentile(late, 0.5),
                "first_seconds": late[0],
                "last_seconds": late[-1],
                "last_fired_seconds": (fired_at - due_at).total_seconds(),
                "until_the_api_knows_all_instances_seconds": whole,
            },
        )
    )
    return percentile(late, 0.99)
