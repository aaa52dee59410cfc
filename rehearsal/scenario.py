"""The scenario: a job is posted, runs, is interrupted, runs on another instance, is done."""

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
"""A job in the form of `GET /status/{id}`."""


class Deviation(Exception):
    """The scenario did not go as it must. The message is one line of text."""


class Scenario(Struct, frozen=True, kw_only=True):
    """The parameters of the scenario."""

    image: str
    seconds: int
    """The container's run time, unless it is stopped."""
    step_timeout_seconds: float = 45.0
    """The time limit of one step."""

    def job_request(self) -> dict[str, Any]:
        """Return the body of `POST /schedule`."""
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
    """The result of the scenario, from the system and from the cloud."""

    posted_at: datetime
    job: Job
    events: list[PublishedEvent]
    bills: list[Bill]
    left: list[str]
    """The ids of instances that are not terminated in EC2."""


def run_scenario(
    stage: Stage, scenario: Scenario, report: Callable[[str], None]
) -> tuple[int, str]:
    """Run it; return the ids of the job and of the interrupted instance. Raises `Deviation`."""
    job_id = int(stage.system.ask("POST", "/schedule", scenario.job_request())["id"])
    report(f"job {job_id} is posted")
    job = _until(stage, job_id, scenario, "it runs", lambda job: job["phase"] == "running")
    interrupted = str(job["instance_id"])
    report(f"it runs on {interrupted}: interrupting that instance, with notice")
    stage.cloud.control.interrupt(interrupted)
    _until(stage, job_id, scenario, "it runs again", _runs_again)
    report("it runs again, on another instance")
    _until(stage, job_id, scenario, "it is finished", lambda job: job["finished_at"] is not None)
    _until(stage, job_id, scenario, "its instances are terminated", _are_terminated)
    report("it is finished, and the cloud has confirmed that its instances are terminated")
    return job_id, interrupted


def instances_left(stage: Stage) -> list[str]:
    """List the instances of this account that are not terminated in EC2."""
    ec2 = boto3.client("ec2", **stage.cloud.client_arguments())
    pages = ec2.get_paginator("describe_instances").paginate()
    return [
        each["InstanceId"]
        for page in pages
        for group in page["Reservations"]
        for each in group["Instances"]
        if each["State"]["Name"] != TERMINATED_STATE
    ]


def _runs_again(job: Job) -> bool:
    return bool(job["attempt"] > 1 and job["phase"] == "running")


def _are_terminated(job: Job) -> bool:
    launched = [each for each in job["attempts"] if each["instance_id"] is not None]
    return all(each["instance_gone_at"] is not None for each in launched)


def _until(
    stage: Stage, job_id: int, scenario: Scenario, step: str, holds: Callable[[Job], bool]
) -> Job:
    deadline = time.monotonic() + scenario.step_timeout_seconds
    while True:
        job: Job = stage.system.ask("GET", f"/status/{job_id}")
        if holds(job):
            return job
        if job["finished_at"] is not None and step.startswith("it runs"):
            raise Deviation(f"the job ended {job['status']} before {step}: {job['error_message']}")
        if time.monotonic() > deadline:
            because = f" ({job['waiting_because']})" if job["waiting_because"] else ""
            raise Deviation(
                f"{scenario.step_timeout_seconds:g} s have passed before {step}: the job is "
                f"{job['phase']}{because}"
            )
        time.sleep(STEP_SECONDS)
