"""The whole system on the fake AWS, which refuses launches for every kind of reason: all jobs DONE.

As a whole and by pool; the deployment's fault is named by `/readyz` while it lasts.
"""

from collections.abc import Iterator

import pytest

from fake_aws import CloudSettings
from rehearsal.stage import Stage, open_stage
from tests.support.systems.api_client import ApiClient
from tests.support.waiting import until

CODES = (
    *("PendingVerification", "MaxFleetCountExceeded", "ReservationCapacityExceeded"),
    *("InsufficientAddressCapacity", "InsufficientVolumeCapacity", "InvalidAMIID.NotFound"),
    *("InvalidAMIID.Unavailable", "AuthFailure.ServiceLinkedRoleCreationNotPermitted"),
    *("InvalidLaunchTemplateId.NotFoundException", "UnauthorizedOperation", "SomethingNew"),
)
JOBS = 5
JOB = {
    "docker_image": "alpine",
    "scheduled_for": "now",
    "capacity": "spot",
    "env_vars": {"SIMULATE_SECONDS": "1"},
}
STORY_SECONDS = 120
SUBNET = "InvalidSubnetID.NotFound"


@pytest.fixture
def stage() -> Iterator[Stage]:
    with open_stage(
        CloudSettings(speed=40.0, boot="process", price_step_seconds=86_400.0),
        EC2_INSTANCE_TYPES="m5.large",
        EC2_POOL_REST_SECONDS="0.1",
        LAUNCH_RETRY_SECONDS="0.2",
        LAUNCH_RETRY_LONGEST_SECONDS="0.5",
    ) as stage:
        yield stage


@pytest.fixture
def client(stage: Stage) -> Iterator[ApiClient]:
    client = ApiClient(stage.system.url)
    yield client
    client.http.close()


def test_jobs_that_aws_refuses_for_every_reason_are_all_done(
    stage: Stage, client: ApiClient
) -> None:
    control = stage.cloud.control
    control.fail_pool(SUBNET)
    for _ in range(JOBS):
        client.http.post("/schedule", json=JOB).raise_for_status()

    def waits() -> bool:
        job = client.job(1)
        return SUBNET in (job["waiting_because"] or "")

    until(waits, STORY_SECONDS, "it is said why the first job waits")
    ready = client.http.get("/readyz")
    assert (ready.status_code, ready.json()["degraded"]) == (200, ["launches"])
    assert "DOCKER_JOB_EC2_SUBNETS" in ready.json()["message"]
    control.heal()
    for code in CODES:
        control.fail("CreateFleet", code=code, status=400, message="words", times=1)
        control.fail_pool(code, times=1)
    until(
        lambda: all(job["status"] == "DONE" for job in client.jobs()),
        STORY_SECONDS,
        "every job is DONE",
    )
    outcomes = {each.outcome for each in control.calls("CreateFleet")}
    assert set(CODES) <= outcomes
    assert client.http.get("/readyz").json() == {"status": "ready"}
