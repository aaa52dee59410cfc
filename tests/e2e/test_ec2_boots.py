"""Instances that cannot boot, from job to cloud: jobs fail soon and say why, then all wait."""

from collections.abc import Iterator
from typing import Any

import pytest

from fake_aws import CloudSettings
from rehearsal.stage import Stage, instances_left, open_stage
from tests.support.systems.api_client import TERMINAL, ApiClient
from tests.support.waiting import until

CLOUD = CloudSettings(speed=50.0, boot="process", price_step_seconds=86_400.0)
STORY_SECONDS = 120


@pytest.fixture
def stage() -> Iterator[Stage]:
    with open_stage(
        CLOUD,
        EC2_INSTANCE_TYPES="m5.large,c5.large",
        BOOT_SECONDS="10",
        BOOT_FAILURES_PAUSE="5",
        RETRY_FIRST_SECONDS="0.1",
        LOG_LEVEL="warning",
    ) as stage:
        yield stage


@pytest.fixture
def client(stage: Stage) -> Iterator[ApiClient]:
    client = ApiClient(stage.system.url)
    yield client
    client.http.close()


def failed(client: ApiClient, job_id: int) -> dict[str, Any]:
    """Wait until the job has ended, and both of its consoles are there."""

    def over() -> bool:
        job = client.job(job_id)
        consoles = [each["console_output"] for each in job["attempts"]]
        return job["status"] in TERMINAL and all(consoles)

    until(over, STORY_SECONDS, "the job has ended, with the consoles of its instances")
    return client.job(job_id)


@pytest.mark.timeout(300)
def test_jobs_on_instances_that_cannot_boot_fail_with_the_reason_and_then_launches_pause(
    stage: Stage, client: ApiClient
) -> None:
    control = stage.cloud.control
    control.break_boots("no_python", times=2)
    first = failed(client, client.schedule())
    assert first["status"] == "FAILED"
    assert len(first["attempts"]) == 2
    assert "gave up after 2 failed boots in a row (DOCKER_JOB_BOOT_LIMIT)" in first["error_message"]
    assert "docker-job: no agent that can be trusted" in first["error_message"]

    control.break_boots("kernel_panic", times=3)
    second = failed(client, client.schedule())
    assert (second["status"], len(second["attempts"])) == ("FAILED", 2)
    assert "no claim by its instance within 10 s of its launch" in second["error_message"]
    assert "Kernel panic - not syncing" in second["error_message"]
    assert all("Kernel panic" in each["console_output"] for each in second["attempts"])

    third = client.schedule()  # its failed boot is the fifth: by now it is nobody's own fault
    until(
        lambda: "launches are paused" in (client.job(third)["waiting_because"] or ""),
        STORY_SECONDS,
        "the job waits for the end of the pause",
    )
    assert client.http.get("/readyz").json()["degraded"] == ["launches"]
    until(lambda: not instances_left(stage), STORY_SECONDS, "every instance is terminated")
    assert len(control.ledger()) == 5
    waiting = client.job(third)
    assert (waiting["status"], waiting["attempt"]) == ("SCHEDULED", 2)
    assert "make doctor" in waiting["waiting_because"]
