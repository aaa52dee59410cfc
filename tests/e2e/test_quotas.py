"""Quotas on the whole system: what a job that waits says, and that it goes on by itself."""

import contextlib
import itertools
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from fake_aws import CloudSettings
from rehearsal.stage import open_stage
from tests.support.systems.api_client import ApiClient
from tests.support.systems.embedded_system import EmbeddedSystem
from tests.support.waiting import until

JOB = {
    "docker_image": "alpine",
    "scheduled_for": "now",
    "env_vars": {"SIMULATE_SECONDS": "2"},
}
SECONDS = 60


@pytest.fixture
def system() -> Iterator[EmbeddedSystem]:
    system = EmbeddedSystem(
        COMPUTE_URL="process://", RUNTIME="simulated", QUOTA_INSTANCES="1", QUOTA_JOBS="3"
    )
    system.start()
    yield system
    system.close()


def test_jobs_over_the_quota_of_instances_wait_and_are_done_one_after_the_other(
    system: EmbeddedSystem,
) -> None:
    for _ in range(3):
        system.http.post("/schedule", json=JOB).raise_for_status()
    assert system.http.post("/schedule", json=JOB).status_code == 429
    until(
        lambda: (
            "1 of 1 live instances (DOCKER_JOB_QUOTA_INSTANCES)"
            in (system.job(3)["waiting_because"] or "")
        ),
        SECONDS,
        "the last job says what it waits for",
    )
    until(
        lambda: (
            system.http.get("/quotas").json()["deployment"]["instances"] == {"used": 1, "limit": 1}
        ),
        SECONDS,
        "the quota is shown as used up",
    )
    assert system.http.get("/readyz").json() == {"status": "ready"}
    until(
        lambda: all(each["status"] == "DONE" for each in system.jobs()),
        SECONDS,
        "every job is DONE",
    )
    jobs = [system.job(number) for number in (1, 2, 3)]
    assert [len(each["attempts"]) for each in jobs] == [1, 1, 1]
    starts = sorted((each["started_at"], each["finished_at"]) for each in jobs)
    assert all(begun >= ended for (_, ended), (begun, _) in itertools.pairwise(starts))
    system.http.post("/schedule", json=JOB).raise_for_status()


def test_on_ec2_the_dollars_of_a_day_are_promised_and_freed() -> None:
    """At 0.1 USD an hour each instance promises some 3 cents, until its time limit there."""
    settings = {"EC2_INSTANCE_TYPES": "m5.large", "QUOTA_USD_PER_DAY": "0.06"}
    cloud = CloudSettings(speed=40.0, boot="process", price_step_seconds=86_400.0)
    with contextlib.ExitStack() as stack:
        stage = stack.enter_context(open_stage(cloud, CAPACITY="on_demand", **settings))
        client = ApiClient(stage.system.url)
        stack.callback(client.http.close)
        for _ in range(3):
            client.http.post("/schedule", json=JOB).raise_for_status()
        if datetime.now(UTC).hour == 23:
            pytest.skip("within the last hour of a UTC day less is promised")
        until(
            lambda: any(
                "the deployment's 0.06 USD a day are spent until 00:00 UTC ("
                in (each["waiting_because"] or "")
                for each in client.jobs()
            ),
            SECONDS,
            "a job says that the day's dollars are spent",
        )
        until(
            lambda: all(each["status"] == "DONE" for each in client.jobs()),
            2 * SECONDS,
            "every job is DONE, as each end frees what it had promised",
        )
        used = client.http.get("/quotas").json()["deployment"]["usd_per_day"]
        assert used["limit"] == 0.06
