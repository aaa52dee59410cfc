"""`make rehearse`: run a scenario without an AWS account. Exit status 0 if nothing deviates.

An instance is a process, or with `--boot container` a container. The job's own container runs on
this machine's Docker engine where one answers and has an image for it, and is simulated otherwise.
"""

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime

from fake_aws import CloudSettings
from fake_aws.as_container import NoEngineError
from rehearsal import hard_day, table
from rehearsal.checks import deviations
from rehearsal.hard_day import run_hard_day
from rehearsal.outboxes import read_outboxes
from rehearsal.outcome import Causes, Outcome
from rehearsal.scenario import run_usual_day
from rehearsal.stage import Stage, instances_left, open_stage
from rehearsal.steps import Deviation, Scenario, Steps
from rehearsal.system import NotRunning
from shared.terminal import print_line

SPEED = 20.0
DAY_SECONDS = 86_400.0
USUAL_SECONDS, HARD_SECONDS = 9, 4
IMAGES = ("alpine", "busybox", "debian:trixie-slim", "debian", "ubuntu", "python:3.13-slim")
"""The images to try: any with a shell."""


def read_options(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m rehearsal", description=__doc__)
    parser.add_argument(
        "--scenario",
        choices=("usual", "hard"),
        default="usual",
        help="one interruption, or all that a real account does on a bad day",
    )
    parser.add_argument("--boot", choices=("process", "container", "auto"), default="process")
    parser.add_argument("--image", help="the job's image, run by this machine's Docker engine")
    parser.add_argument(
        *("--simulated", "--played"), action="store_true", help="simulate the job's container"
    )
    parser.add_argument("--seconds", type=int, help="how long a job's container runs")
    parser.add_argument("--seed", type=int, default=1, help="of prices and delays")
    return parser.parse_args(arguments)


def local_image(names: tuple[str, ...]) -> str | None:
    """Return the first image that this machine's Docker engine has; none is pulled."""
    docker = shutil.which("docker")
    if docker is None:
        return None
    for name in names:
        asked = subprocess.run([docker, "image", "inspect", name], capture_output=True, check=False)
        if asked.returncode == 0:
            return name
    return None


def settings_for(options: argparse.Namespace, *, engine: bool) -> CloudSettings:
    """Return the cloud's settings: a Spot price holds for a day, so that both bills are equal."""
    return CloudSettings(
        seed=options.seed,
        speed=SPEED,
        boot=options.boot,
        engine=engine,
        price_step_seconds=DAY_SECONDS,
        **(hard_day.CLOUD if options.scenario == "hard" else {}),
    )


def rehearse(options: argparse.Namespace) -> list[str]:
    """Run the scenario and print its report; return the deviations."""
    began = time.monotonic()
    given = (options.image,) if options.image else IMAGES
    image = None if options.simulated else local_image(given)
    hard = options.scenario == "hard"
    seconds = options.seconds or (HARD_SECONDS if hard else USUAL_SECONDS)

    def report(text: str) -> None:
        print_line(f"[{time.monotonic() - began:5.1f} s] {text}")

    report("setting up a cloud, an account and the four services")
    changes = hard_day.SETTINGS if hard else {}
    with open_stage(settings_for(options, engine=image is not None), **changes) as stage:
        runs = f"is {image} on this machine's Docker engine" if image else "is simulated"
        report(f"an instance is a {stage.cloud.cloud.boots}, the job's container {runs}")
        steps = Steps(stage, Scenario(image=image or given[0], seconds=seconds), report)
        begun_at = datetime.now(UTC)
        try:
            expected = run_hard_day(steps) if hard else run_usual_day(steps)
        except (Deviation, NotRunning) as error:
            keep(stage)
            return [str(error)]
        outcome = _read_outcome(stage, begun_at, expected)
        found = deviations(outcome)
        if found:
            keep(stage)
        print_line(f"\nEvents\n\n{table.event_table(outcome)}")
        print_line(f"\nCosts\n\n{table.bill_table(outcome)}\n\n{table.summary(outcome)}\n")
    return found


def keep(stage: Stage) -> None:
    """Keep the system's directory after the rehearsal, and print the path of its log."""
    stage.system.keep = True
    print_line(f"The system's log is {stage.system.log}", error=True)


def _read_outcome(stage: Stage, begun_at: datetime, expected: dict[int, Causes]) -> Outcome:
    return Outcome(
        posted_at=begun_at,
        expected=expected,
        jobs=[stage.system.ask("GET", f"/status/{job_id}") for job_id in expected],
        events=asyncio.run(read_outboxes(stage.system.admin_dsn())),
        bills=stage.cloud.control.ledger(),
        left=sorted({*instances_left(stage), *stage.cloud.control.running()}),
    )


def main(arguments: list[str]) -> int:
    """Run the command line; return the exit status."""
    os.umask(0o077)  # the systems' directories have logs and user data
    try:
        found = rehearse(read_options(arguments))
    except (Deviation, NotRunning, NoEngineError) as error:
        found = [str(error)]
    return conclude(found)


def conclude(found: list[str]) -> int:
    """Print the deviations; return the exit status."""
    for each in found:
        print_line(f"DEVIATION: {each}", error=True)
    if not found:
        print_line("No instance is running: EC2 says so.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
