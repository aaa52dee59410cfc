"""The rate of whole jobs: accepted, due, launched, claimed, run, ended, terminated, confirmed.

Instances are simulated and their containers print a line and exit at once; their agents use the
real protocol over HTTP. A virtual cloud is in one process, so launcher and reaper share one.

An older commit's services run the same jobs, on the same servers, driven and measured by the same
code: each run has both, alternately.
"""

import json
import time
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct

from bench.baseline import ours_first
from bench.cpu import us_a_job
from bench.report import Ceiling, Figure, at_least, of_ceiling
from bench.run import Run, percentile
from bench.servers import checkpoint
from bench.system import ONE_CLOUD, OURS, run_system

PART = "life"
ARRAY = 1000
CLOUD = {"COMPUTE_URL": "sim://?seed=7", "REAP_WATCH_SECONDS": "5"}
"""Instances boot and end at once, so that the machine's cores are the bound, not the cloud."""
GONE = "SELECT count(*) FROM api.attempts WHERE instance_gone_at IS NOT NULL"
GONE_AT = "SELECT instance_gone_at FROM api.attempts WHERE instance_gone_at IS NOT NULL"
DONE = "SELECT count(*) FROM api.jobs WHERE status = 'DONE'"


class Life(Struct, frozen=True, kw_only=True):
    """The result of some jobs."""

    rate: float
    cpu_us: dict[str, float]
    detail: dict[str, float]
    peak_bytes: dict[str, int]


async def measure(run: Run) -> None:
    """Run thousands of jobs at once, until the last instance is confirmed as terminated."""
    jobs = int(run.pick(5000, 1000))
    if run.number == 1:  # so that the server has its files, and every program is in memory
        run.log("life: warming up")
        await _run_lives(run, ARRAY, OURS)
    trees = [OURS] if run.baseline is None else [run.baseline.tree, OURS]
    if ours_first(run.number):
        trees.reverse()
    lives = {}
    for tree in trees:
        lives[tree] = await _run_lives(run, jobs, tree)
        run.log(f"life: {lives[tree].rate:.1f} jobs/s, {'ours' if tree == OURS else 'baseline'}")
    ours = lives[OURS]
    theirs = None if run.baseline is None else lives[run.baseline.tree]
    _show(run, f"{jobs:,} jobs at once, from accepted to instance gone", ours, theirs)


def _show(run: Run, name: str, ours: Life, theirs: Life | None) -> None:
    run.keep_peaks(
        {"launcher, reaper and their virtual cloud": ours.peak_bytes["cloud"]}
        | {name: held for name, held in ours.peak_bytes.items() if name != "cloud"}
    )
    rate = taken = None
    if run.baseline is not None and theirs is not None:
        commit = f"commit {run.baseline.commit}"
        rate, taken = Ceiling(commit, theirs.rate), Ceiling(commit, sum(theirs.cpu_us.values()))
        run.add(
            Figure(
                part=PART,
                name=f"{name}, {commit}",
                value=theirs.rate,
                unit="jobs/s",
                cpu_us=theirs.cpu_us,
                detail=theirs.detail,
            )
        )
    run.add(
        Figure(
            part=PART,
            name=name,
            value=ours.rate,
            unit="jobs/s",
            ceiling=rate,
            goals=(of_ceiling(2.6), at_least(400, aside=True)),
            cpu_us=ours.cpu_us,
            detail=ours.detail,
        ),
        Figure(
            part=PART,
            name="CPU time of a whole life",
            value=sum(ours.cpu_us.values()),
            unit="µs/job",
            ceiling=taken,
        ),
    )


async def _run_lives(run: Run, jobs: int, tree: Path) -> Life:
    await checkpoint(run.servers)  # so that earlier writes are not flushed meanwhile
    async with run_system(run.servers, ONE_CLOUD, CLOUD, tree) as system:
        job = {"docker_image": "alpine:3.20", "scheduled_for": "now"}
        body = json.dumps([job] * ARRAY).encode()
        before = system.meter.read()
        begun, began_at = time.monotonic(), datetime.now(UTC)
        for _ in range(jobs // ARRAY):
            await system.accept(body)
        accepted = time.monotonic() - begun
        await system.until(GONE, jobs, seconds=300, every=0.25)
        seconds = time.monotonic() - begun
        cpu_us = us_a_job(before, system.meter.read(), jobs)
        rows = await system.admin.fetch(GONE_AT)
        gone = [(row["instance_gone_at"] - began_at).total_seconds() for row in rows]
        return Life(
            rate=jobs / seconds,
            cpu_us=cpu_us,
            detail={
                "seconds": seconds,
                "accepted_seconds": accepted,
                "half_gone_seconds": percentile(gone, 0.5),
                "p99_gone_seconds": percentile(gone, 0.99),
                "done": await system.count(DONE),
            },
            peak_bytes=dict(system.peak_bytes),
        )
