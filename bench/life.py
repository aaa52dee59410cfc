"""The whole life of jobs: accepted, due, launched, claimed, run, ended, terminated, confirmed.

Instances are simulated and their containers print a line and exit at once; their agents speak the
real protocol over HTTP. A virtual cloud lives in one process, so launcher and reaper share one.
"""

import json
import time

from bench.report import Figure, at_least
from bench.run import Run
from bench.system import ONE_CLOUD, run_system

PART = "life"
ARRAY = 1000
GONE = "SELECT count(*) FROM api.attempts WHERE instance_gone_at IS NOT NULL"
DONE = "SELECT count(*) FROM api.jobs WHERE status = 'DONE'"


async def measure(run: Run) -> None:
    """Some thousands of jobs at once, until the last instance is confirmed to be gone."""
    jobs = int(run.pick(5000, 1000))
    # Its own machine's cores bound it, not the cloud: instances boot and end at once.
    cloud = {"COMPUTE_URL": "sim://?seed=7", "REAP_WATCH_SECONDS": "5"}
    async with run_system(run.servers, ONE_CLOUD, cloud) as system:
        order = {"docker_image": "alpine:3.20", "scheduled_for": "now"}
        body = json.dumps([order] * ARRAY).encode()
        begun = time.monotonic()
        for _ in range(jobs // ARRAY):
            await system.accept(body)
        accepted = time.monotonic() - begun
        await system.until(GONE, jobs, seconds=300, every=0.25)
        seconds = time.monotonic() - begun
        done = await system.count(DONE)
        run.keep_peaks(
            {"launcher, reaper and their virtual cloud": system.peak_bytes["cloud"]}
            | {name: held for name, held in system.peak_bytes.items() if name != "cloud"}
        )
    run.add(
        Figure(
            part=PART,
            name=f"{jobs:,} jobs at once, from accepted to instance gone",
            value=jobs / seconds,
            unit="jobs/s",
            goals=(at_least(300),),
            detail={"seconds": seconds, "accepted_seconds": accepted, "done": done},
        )
    )
