"""The steps of a scenario: post a job, await a state of it."""

import time
from collections.abc import Callable
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from rehearsal.outcome import Job
from rehearsal.stage import Stage

STEP_SECONDS = 0.1


class Deviation(Exception):
    """The scenario did not go as it must. The message is one line of text."""


class Scenario(Struct, frozen=True, kw_only=True):
    """The parameters of a scenario."""

    image: str
    seconds: int
    """The container's run time, unless it is stopped."""
    step_timeout_seconds: float = 45.0
    """The time limit of one step."""

    def job_request(self, **more: Any) -> dict[str, Any]:
        """Return the body of `POST /schedule`; *more* are fields of it."""
        steps = f"i=0; while [ $i -lt {self.seconds} ]; do sleep 1; i=$((i+1)); done"
        return {
            "docker_image": self.image,
            "command": ["sh", "-c", f"trap 'exit 143' TERM; {steps}; echo finished"],
            "scheduled_for": "now",
            "name": "rehearsal",
            "capacity": "spot",
            "env_vars": {"SIMULATE_SECONDS": str(self.seconds), "SIMULATE_OUTPUT": "finished"},
            **more,
        }


class Steps(Struct, frozen=True):
    """The system on its stage, watched through its API."""

    stage: Stage
    scenario: Scenario
    report: Callable[[str], None]

    def post(self, seconds: int | None = None, **more: Any) -> int:
        """Post a job, whose container runs for *seconds*; return its id."""
        scenario = replace(self.scenario, seconds=seconds or self.scenario.seconds)
        body = scenario.job_request(**more)
        job_id = int(self.stage.system.ask("POST", "/schedule", body)["id"])
        self.report(f"job {job_id} is posted")
        return job_id

    def status(self, job_id: int) -> Job:
        """Return the job."""
        found: Job = self.stage.system.ask("GET", f"/status/{job_id}")
        return found

    def until_running(self, job_id: int, attempt: int = 1) -> str:
        """Wait until the container of this attempt, or a later one, runs; return its instance."""
        job = self.until(
            job_id,
            f"attempt {attempt} runs",
            lambda job: job["attempt"] >= attempt and job["phase"] == "running",
        )
        return str(job["instance_id"])

    def until_waiting(self, job_id: int, *words: str) -> str:
        """Wait until the reason why the job waits has these words; return it."""
        job = self.until(
            job_id,
            f"it waits because of {' and '.join(words)}",
            lambda job: all(word in str(job["waiting_because"]) for word in words),
        )
        return str(job["waiting_because"])

    def until_settled(self, job_id: int) -> Job:
        """Wait until the job is finished and the cloud has confirmed the end of its instances."""
        self.until(job_id, "it is finished", lambda job: job["finished_at"] is not None)
        return self.until(job_id, "its instances are terminated", _are_terminated)

    def until(self, job_id: int, step: str, holds: Callable[[Job], bool]) -> Job:
        """Wait until *holds*; return the job. Raises `Deviation`."""
        deadline = time.monotonic() + self.scenario.step_timeout_seconds
        while True:
            job = self.status(job_id)
            if holds(job):
                return job
            if job["finished_at"] is not None and "terminated" not in step:
                raise Deviation(
                    f"job {job_id} ended {job['status']} before {step}: {job['error_message']}"
                )
            if time.monotonic() > deadline:
                because = f" ({job['waiting_because']})" if job["waiting_because"] else ""
                raise Deviation(
                    f"{self.scenario.step_timeout_seconds:g} s have passed before {step}: job "
                    f"{job_id} is {job['phase']}{because}"
                )
            time.sleep(STEP_SECONDS)


def _are_terminated(job: Job) -> bool:
    launched = [each for each in job["attempts"] if each["instance_id"] is not None]
    return all(each["instance_gone_at"] is not None for each in launched)
