"""`make rehearse`: the story of one job, with no AWS account. The exit status is 0 if all was well.

`--boot container` makes instances of containers where a Docker engine answers; `--engine` lets jobs
have it too, for an image that it has (`--image`). By itself instances are processes, and a job's
container is played.
"""

import argparse
import asyncio
import sys
import time
from datetime import datetime

from dress_rehearsal import table
from dress_rehearsal.checks import deviations
from dress_rehearsal.play import Deviation, Played, Script, instances_left, play
from dress_rehearsal.record import read_told
from dress_rehearsal.stage import Stage, open_stage
from dress_rehearsal.system import NotRunning
from rehearsal import CloudSettings
from rehearsal.as_container import NoEngineError

SPEED = 20.0
DAY_SECONDS = 86_400.0


def read_options(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m dress_rehearsal", description=__doc__)
    parser.add_argument("--boot", choices=("process", "container", "auto"), default="process")
    parser.add_argument("--engine", action="store_true", help="jobs run on this machine's Docker")
    parser.add_argument("--image", default="alpine", help="the job's image")
    parser.add_argument("--seconds", type=int, default=9, help="how long the job's container runs")
    parser.add_argument("--seed", type=int, default=1, help="of prices and delays")
    return parser.parse_args(arguments)


def settings_for(options: argparse.Namespace) -> CloudSettings:
    """The cloud: a Spot price holds for the day, so that both sums meet to the last digit."""
    return CloudSettings(
        seed=options.seed,
        speed=SPEED,
        boot=options.boot,
        engine=options.engine,
        price_step_seconds=DAY_SECONDS,
    )


def rehearse(options: argparse.Namespace) -> list[str]:
    """Play and tell it; answers the deviations."""
    began = time.monotonic()
    script = Script(image=options.image, seconds=options.seconds)

    def say(words: str) -> None:
        print(f"[{time.monotonic() - began:5.1f} s] {words}", flush=True)

    say("a cloud, an account and the four services are set up")
    with open_stage(settings_for(options)) as stage:
        boots = stage.cloud.cloud.boots
        containers = "run by this machine's Docker" if options.engine else "played"
        say(f"ready at {stage.system.url}: an instance is a {boots}, jobs' containers are {containers}")
        try:
            job_id, taken = play(stage, script, say)
        except (Deviation, NotRunning):
            stage.system.keep = True
            raise
        played = _look(stage, job_id)
        found = deviations(played, taken)
        stage.system.keep = bool(found)
        print(f"\nWhat happened\n\n{table.happened(played)}")
        print(f"\nWhat it cost\n\n{table.billed(played)}\n\n{table.summed_up(played)}\n")
        if found:
            print(f"The system's log is {stage.system.log}", file=sys.stderr)
    return found


def _look(stage: Stage, job_id: int) -> Played:
    job = stage.system.ask("GET", f"/status/{job_id}")
    return Played(
        posted_at=datetime.fromisoformat(job["created_at"]),
        job=job,
        told=asyncio.run(read_told(stage.system.admin_dsn())),
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
