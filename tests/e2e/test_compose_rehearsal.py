"""The compose profile `rehearsal`: the four services on the fake AWS, all in containers."""

import subprocess
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.run.ports import free_port
from tests.support.systems.compose_project import (
    BuiltClone,
    ComposeProject,
    docker,
    succeeds,
)
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(900)  # images may have to be built

STORY_SECONDS = 90


class RehearsedProject(ComposeProject):
    """A project with the settings of rehearsal.env, and the control API of its cloud."""

    def __init__(self, clone: BuiltClone) -> None:
        port = free_port()
        self.image = f"docker-job-rehearsal:{clone.images['DOCKER_JOB_IMAGE'].partition(':')[2]}"
        super().__init__(clone, REHEARSAL_PORT=str(port), REHEARSAL_IMAGE=self.image)
        self.cloud = httpx.Client(base_url=f"http://127.0.0.1:{port}/rehearsal", timeout=30)

    def compose(self, *arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
        """Run `docker compose --env-file rehearsal.env …`."""
        return super().compose("--env-file", "rehearsal.env", *arguments, **options)

    def ask(self, command: str, **arguments: Any) -> Any:
        """Send a command to the cloud's control API."""
        answer = self.cloud.post(f"/{command}", json=arguments)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def close(self) -> None:
        """Leave nothing behind, the cloud's image neither."""
        self.cloud.close()
        super().close()
        succeeds("image", "rm", self.image)


@pytest.fixture
def project(clone: BuiltClone) -> Iterator[RehearsedProject]:
    project = RehearsedProject(clone)
    try:
        project.up("--build")
        yield project
    finally:
        project.close()


def test_a_job_is_interrupted_comes_back_and_finishes_and_nothing_is_left(
    project: RehearsedProject,
) -> None:
    begun = time.monotonic()
    job_id = project.schedule(env_vars={"SIMULATE_SECONDS": "15"})
    until(lambda: project.job(job_id)["phase"] == "running", STORY_SECONDS)
    taken = project.job(job_id)["instance_id"]
    project.ask("interrupt", instance_id=taken)
    until(lambda: project.job(job_id)["finished_at"] is not None, STORY_SECONDS)
    until(lambda: are_terminated(project.job(job_id)), STORY_SECONDS)

    job = project.job(job_id)
    ledger = project.ask("ledger")
    print(f"\nunder compose: {job['status']} after {time.monotonic() - begun:.1f} s")
    assert job["status"] == "DONE"
    assert [each["cause"] for each in job["attempts"]] == ["interrupted", "done"]
    assert job["attempts"][0]["instance_id"] == taken
    assert len(ledger) == 2
    # EC2's times have no fractions of a second: of each instance that is one second of its price.
    fraction = sum(each["cost_usd"] / max(60.0, each["billed_seconds"]) for each in ledger)
    billed = sum(each["cost_usd"] for each in ledger)
    assert job["cost_usd"] == pytest.approx(billed, abs=fraction + 2e-6)
    assert project.ask("running") == []
    assert project.instances() == [], "something ran on this machine's own engine"
    mounts = docker("inspect", "--format", "{{json .Mounts}}", project.container("rehearsal"))
    assert "docker.sock" not in mounts


def are_terminated(job: dict[str, Any]) -> bool:
    """Return whether the end of each of its instances is recorded."""
    launched = [each for each in job["attempts"] if each["instance_id"] is not None]
    return all(each["instance_gone_at"] is not None for each in launched)
