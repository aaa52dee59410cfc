"""The story: a job is posted, runs, is taken back by the Spot market, runs elsewhere, is done."""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import boto3
from msgspec import Struct

from fake_aws.ledger import Bill
from rehearsal.outboxes import PublishedEvent
from rehearsal.stage import Stage

STEP_SECONDS = 0.1
TERMINATED_STATE = "terminated"

Job = dict[str, Any]
"""As `GET /status/{id}` shows it."""


class Deviation(Exception):
    """The story has taken another turn. The message is one line for a person."""


class Scenario(Struct, frozen=True, kw_only=True):
    """What is played."""

    image: str
    seconds: int
    """How long the container runs where nobody stops it."""
    step_timeout_seconds: float = 45.0
    """How long any one turn of the story may take."""

    def job_request(self) -> dict[str, Any]:
        """The body of `POST /schedule`."""
        steps = f"i=0; while [ $i -lt {self.seconds} ]; do sleep 1; i=$((i+1)); done"
        return {
            "docker_image": self.image,
            "command": ["sh", "-c", f"trap 'exit 143' TERM; {steps}; echo finished"],
            "scheduled_for": "now",
            "name": "rehearsal",
            "capacity": "spot",
            "env_vars": {"SIMULATE_SECONDS": str(self.seconds), "SIMULATE_OUTPUT": "finished"},
        }


class Outcome(Struct, frozen=True, kw_only=True):
    """What came of it, from both sides: the system's words, and the cloud's."""

    posted_at: datetime
    job: Job
    events: list[PublishedEvent]
    bills: list[Bill]
    left: list[str]
    """Ids of instances that EC2 shows and does not call terminated."""


def run_scenario(
    stage: Stage, scenario: Scenario, report: Callable[[str], None]
) -> tuple[int, str]:
    """Play it; answers the job's id and the instance that was taken. Raises `Deviation`."""
    job_id = int(stage.system.ask("POST", "/schedule", scenario.job_request())["id"])
    report(f"job {job_id} is posted")
    job = _until(stage, job_id, scenario, "it runs", lambda job: job["phase"] == "running")
    interrupted = str(job["instance_id"])
    report(f"it runs on {interrupted}: the Spot market takes that back, with notice")
    stage.cloud.control.interrupt(interrupted)
    _until(stage, job_id, scenario, "it comes back elsewhere", _is_replaced)
    report("it has come back on another instance")
    _until(stage, job_id, scenario, "it is over", lambda job: job["finished_at"] is not None)
    _until(stage, job_id, scenario, "its instances are gone", _are_terminated)
    report("it is over, and the cloud has confirmed the end of its instances")
    return job_id, interrupted


def instances_left(stage: Stage) -> list[str]:
    """What EC2 shows of this account and does not call terminated."""
    ec2 = boto3.client("ec2", **stage.cloud.client_arguments())
    pages = ec2.get_paginator("describe_instances").paginate()
    return [
        each["InstanceId"]
        for page in pages
        for group in page["Reservations"]
        for each in group["Instances"]
        if each["State"]["Name"] != TERMINATED_STATE
    ]


def _is_replaced(job: Job) -> bool:
    return bool(job["attempt"] > 1 and job["phase"] == "running")


def _are_terminated(job: Job) -> bool:
    launched = [each for each in job["attempts"] if each["instance_id"] is not None]
    return all(each["instance_gone_at"] is not None for each in launched)


def _until(
    stage: Stage, job_id: int, scenario: Scenario, text: str, holds: Callable[[Job], bool]
) -> Job:
    deadline = time.monotonic() + scenario.step_timeout_seconds
    while True:
        job: Job = stage.system.ask("GET", f"/status/{job_id}")
        if holds(job):
            return job
        if job["finished_at"] is not None and not text.startswith(("it is over", "its instances")):
            raise Deviation(f"the job ended {job['status']} before {text}: {job['error_message']}")
        if time.monotonic() > deadline:
            because = f" ({job['waiting_because']})" if job["waiting_because"] else ""
            raise Deviation(
                f"{scenario.step_timeout_seconds:g} s have passed before {text}: the job is "
                f"{job['phase']}{because}"
            )
        time.sleep(STEP_SECONDS)
