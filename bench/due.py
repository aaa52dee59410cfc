"""How late a job starts: 10,000 due in the same second, and one alone on an idle system.

A launcher has handled an `InstanceRequested` when the transaction with its inbox row has committed:
the server itself tells when that was (track_commit_timestamp).
"""

import asyncio
import json
from datetime import UTC, datetime, timedelta

from bench.bare import publish_rate
from bench.report import Ceiling, Figure, at_most
from bench.run import Run, percentile
from bench.servers import fresh_vhost
from bench.system import System, run_system

PART = "due"
CLOUD_HOLDER = "launcher and the virtual cloud of all instances"
ARRAY = 1000
SPACING_SECONDS = 0.13

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
    """First the idle system, then the crowd, which leaves it with 10,000 instances."""
    async with fresh_vhost(run.servers) as url:
        bare = await publish_rate(url, in_flight=1000, seconds=run.pick(3, 1))
    async with run_system(run.servers) as system:
        await _idle(run, system, int(run.pick(100, 20)))
        for number in range(int(run.pick(3, 1))):
            await crowd(run, system, int(run.pick(10_000, 2000)), f"run {number + 1}", bare)
        run.keep_peaks(named(system.peak_bytes))


def named(peaks: dict[str, int]) -> dict[str, int]:
    """The launcher's process holds the virtual cloud too, with all that it has launched."""
    return {CLOUD_HOLDER if name == "launcher" else name: held for name, held in peaks.items()}


def orders(due: list[datetime]) -> bytes:
    """An array of jobs that are due at these moments."""
    return json.dumps(
        [{"docker_image": "alpine:3.20", "scheduled_for": each.isoformat()} for each in due]
    ).encode()


async def _idle(run: Run, system: System, jobs: int) -> None:
    newest = await system.count("SELECT max(id) FROM api.jobs")
    first = datetime.now(UTC) + timedelta(seconds=2)
    due = [first + timedelta(seconds=SPACING_SECONDS * place) for place in range(jobs)]
    await system.accept(orders(due))
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


async def crowd(run: Run, system: System, jobs: int, name: str, bare: float | None = None) -> None:
    """*jobs* due at one moment, and how late the launcher had each; *bare* publishes a second."""
    before = await system.count(HANDLED_COUNT)
    launched = await system.count(LAUNCHED)
    # Accepted and told to the scheduler well before they are due.
    due_at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=5 + jobs / 1000)
    for _ in range(jobs // ARRAY):
        await system.accept(orders([due_at] * ARRAY))
    await system.settled()
    early = (due_at - datetime.now(UTC)).total_seconds()
    if early < 0.5:
        raise RuntimeError(f"{jobs} jobs took until {-early:.1f} s after they were due to accept")
    await asyncio.sleep(early)
    await system.until(HANDLED_COUNT, before + jobs, seconds=120, every=0.25)
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
            goals=(at_most(2),),
            detail={
                "p50_seconds": percentile(late, 0.5),
                "first_seconds": late[0],
                "last_seconds": late[-1],
                "last_fired_seconds": (fired_at - due_at).total_seconds(),
                "until_the_api_knows_all_instances_seconds": whole,
            },
        ),
        Figure(
            part=PART,
            name=f"{jobs:,} due at once, events handled by the launcher ({name})",
            value=jobs / late[-1],
            unit="events/s",
            ceiling=None if bare is None else Ceiling("bare aio-pika publish", bare),
        ),
    )
