"""Faults of an account, of AWS or of a zone, from job to cloud: they cost time, and fail no job."""

from collections.abc import Iterator

import pytest

from fake_aws import CloudSettings
from fake_aws.boot_faults import PENDING
from rehearsal.stage import Stage, open_stage
from tests.support.systems.api_client import TERMINAL, ApiClient
from tests.support.waiting import until

CLOUD = CloudSettings(speed=50.0, boot="process", price_step_seconds=86_400.0)
STORY_SECONDS = 120
SHORT = {"SIMULATE_SECONDS": "0"}


@pytest.fixture
def stage() -> Iterator[Stage]:
    with open_stage(
        CLOUD,
        EC2_INSTANCE_TYPES="m5.large,c5.large",
        BOOT_SECONDS="60",
        BOOT_FAILURES_PAUSE="100",
        RETRY_FIRST_SECONDS="0.1",
        LOG_LEVEL="warning",
    ) as stage:
        yield stage


@pytest.fixture
def client(stage: Stage) -> Iterator[ApiClient]:
    client = ApiClient(stage.system.url)
    yield client
    client.http.close()


def all_done(client: ApiClient, jobs: list[int]) -> None:
    def over() -> bool:
        return all(client.job(each)["status"] in TERMINAL for each in jobs)

    until(over, STORY_SECONDS, "the jobs have ended")
    ends = {(client.job(each)["status"], client.job(each)["error_message"]) for each in jobs}
    assert ends == {("DONE", None)}


@pytest.mark.timeout(300)
def test_jobs_outlast_every_end_that_ec2_explains_and_wait_until_it_is_mended(
    stage: Stage, client: ApiClient
) -> None:
    control = stage.cloud.control
    for kind in PENDING:
        control.break_boots(kind, times=2)
    jobs = [client.schedule(env_vars=SHORT) for _ in range(4)]
    all_done(client, jobs)
    attempts = [each for job_id in jobs for each in client.job(job_id)["attempts"]]
    messages = " ".join(each["error_message"] or "" for each in attempts)
    assert len(attempts) == 4 + 2 * len(PENDING)
    assert all(code in messages for code, _ in PENDING.values())

    control.break_boots("volume_limit", times=None)
    waiting = client.schedule(env_vars=SHORT)

    def explained() -> bool:
        shown = client.job(waiting)
        because = shown["waiting_because"] or ""
        named = "Client.VolumeLimitExceeded" in because and "ask AWS for more" in because
        return named and shown["attempt"] > 4

    until(explained, STORY_SECONDS, "the job names what to change")
    until(
        lambda: "ask AWS for more" in client.http.get("/readyz").text,
        STORY_SECONDS,
        "the API names it too",
    )
    control.heal()
    all_done(client, [waiting])


@pytest.mark.timeout(300)
def test_a_zone_in_which_nothing_boots_costs_each_job_one_attempt(
    stage: Stage, client: ApiClient
) -> None:
    first = client.schedule(env_vars=SHORT)
    all_done(client, [first])
    # The cheapest pool: the others are launched there too.
    bad = client.job(first)["attempts"][0]["zone"]
    stage.cloud.control.break_boots("power_off", times=None, zone=bad)
    jobs = [client.schedule(env_vars=SHORT) for _ in range(4)]
    all_done(client, jobs)
    attempts = [client.job(each)["attempts"] for each in jobs]
    assert any(each[0]["boot_failed"] for each in attempts)
    assert all(len(each) <= 2 for each in attempts)
    assert {each[-1]["zone"] for each in attempts}.isdisjoint({bad})
    failed = [each[0]["error_message"] for each in attempts if each[0]["boot_failed"]]
    assert all(f" in {bad})" in each for each in failed)
