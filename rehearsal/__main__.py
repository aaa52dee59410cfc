"""`make rehearse`: the story of one job, with no AWS account. The exit status is 0 if all was well.

An instance is a process, or with `--boot container` a container. The job's own container runs on
this machine's Docker engine where one answers and has an image for it, and is played otherwise.
"""

import argparse
import asyncio
import shutil
import subprocess
import sys
import time
from datetime import datetime

from fake_aws import CloudSettings
from fake_aws.as_container import NoEngineError
from rehearsal import table
from rehearsal.checks import deviations
from rehearsal.outboxes import read_outboxes
from rehearsal.scenario import Deviation, Outcome, Scenario, instances_left, run_scenario
from rehearsal.stage import Stage, open_stage
from rehearsal.system import NotRunning

SPEED = 20.0
DAY_SECONDS = 86_400.0
IMAGES = ("alpine", "busybox", "debian:trixie-slim", "debian", "ubuntu", "python:3.13-slim")
"""Any with a shell."""


def read_options(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m rehearsal", description=__doc__)
    parser.add_argument("--boot", choices=("process", "container", "auto"), default="process")
    parser.add_argument("--image", help="the job's, which this machine's Docker engine runs")
    parser.add_argument(
        *("--simulated", "--played"), action="store_true", help="simulate the job's container"
    )
    parser.add_argument("--seconds", type=int, default=9, help="how long the job's container runs")
    parser.add_argument("--seed", type=int, default=1, help="of prices and delays")
    return parser.parse_args(arguments)


def local_image(names: tuple[str, ...]) -> str | None:
    """The first of these that a Docker engine has here: nothing is fetched for a rehearsal."""
    docker = shutil.which("docker")
    if docker is None:
        return None
    for name in names:
        asked = subprocess.run([docker, "image", "inspect", name], capture_output=True, check=False)
        if asked.returncode == 0:
            return name
    return None


def settings_for(options: argparse.Namespace, *, engine: bool) -> CloudSettings:
    """The cloud: a Spot price holds for the day, so that both sums meet to the last digit."""
    return CloudSettings(
        seed=options.seed,
        speed=SPEED,
        boot=options.boot,
        engine=engine,
        price_step_seconds=DAY_SECONDS,
    )


def rehearse(options: argparse.Namespace) -> list[str]:
    """Play and tell it; answers the deviations."""
    began = time.monotonic()
    given = (options.image,) if options.image else IMAGES
    image = None if options.simulated else local_image(given)
    scenario = Scenario(image=image or given[0], seconds=options.seconds)

    def report(text: str) -> None:
        print(f"[{time.monotonic() - began:5.1f} s] {text}", flush=True)

    report("a cloud, an account and the four services are set up")
    with open_stage(settings_for(options, engine=image is not None)) as stage:
        runs = f"is {image} on this machine's Docker engine" if image else "is played"
        report(f"an instance is a {stage.cloud.cloud.boots}, the job's container {runs}")
        try:
            job_id, interrupted = run_scenario(stage, scenario, report)
        except (Deviation, NotRunning) as error:
            keep(stage)
            return [str(error)]
        outcome = _look(stage, job_id)
        found = deviations(outcome, interrupted)
        if found:
            keep(stage)
        print(f"\nWhat happened\n\n{table.event_table(outcome)}")
        print(f"\nWhat it cost\n\n{table.bill_table(outcome)}\n\n{table.summary(outcome)}\n")
    return found


def keep(stage: Stage) -> None:
    """Have the system's directory outlive the rehearsal, and say where its log is."""
    stage.system.keep = True
    print(f"The system's log is {stage.system.log}", file=sys.stderr)


def _look(stage: Stage, job_id: int) -> Outcome:
    job = stage.system.ask("GET", f"/status/{job_id}")
    return Outcome(
        posted_at=datetime.fromisoformat(job["created_at"]),
        job=job,
        events=asyncio.run(read_outboxes(stage.system.admin_dsn())),
        bills=stage.cloud.control.ledger(),
        left=sorted({*instances_left(stage), *stage.cloud.control.running()}),
    )


def main(arguments: list[str]) -> int:
    """Answers the exit status."""
    try:
        found = rehearse(read_options(arguments))
    except (Deviation, NotRunning, NoEngineError) as error:
        found = [str(error)]
    for each in found:
        print(f"DEVIATION: {each}", file=sys.stderr)
    if not found:
        print("No instance is running: EC2 says so.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
