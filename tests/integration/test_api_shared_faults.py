"""Faults that the instances of many jobs share: they cost time, and fail no job."""

import pytest
from msgspec.structs import replace

from services.api.jobs.boots import CHECK
from shared.clock import VirtualClock
from shared.events.events import AttemptEnded, JobFinished, LaunchesPaused, LaunchesResumed
from tests.integration.test_api_boots import CONSOLE, boots_in_vain, off, ready
from tests.support.api.api_world import World

JOBS = 20
TRIALS = 30


async def latest_pause(world: World) -> LaunchesPaused:
    return (await world.stage.published(LaunchesPaused))[-1]


async def pass_pause(world: World) -> None:
    until = (await latest_pause(world)).until
    world.clock.advance((until - world.clock.now()).total_seconds() + 1)


async def runs(world: World, job_id: int) -> None:
    """Launch the current attempt of a job, and let its container exit 0."""
    agent = await world.claimed(job_id, (await world.status(job_id))["attempt"])
    await world.report(agent, phase="running")
    await world.call_back(agent, {"exit_code": 0})


async def test_an_api_that_no_instance_reaches_fails_no_job_however_many_trials(
    world: World, clock: VirtualClock
) -> None:
    jobs = [(await world.post())["id"] for _ in range(JOBS)]
    await world.deliver(*(world.launched(each) for each in jobs))
    clock.advance(900)
    await world.stage.sweep("end_silent")
    assert len(await world.stage.published(LaunchesPaused)) == 1
    for trial in range(TRIALS):
        await pass_pause(world)
        job_id = jobs[trial % 4]  # those that made the breaker open are tried most
        await world.deliver(world.launched(job_id, (await world.status(job_id))["attempt"]))
        clock.advance(900)
        await world.stage.sweep("end_silent")
    assert len(await world.stage.published(LaunchesPaused)) == 1 + TRIALS
    assert await world.stage.published(JobFinished) == []
    await pass_pause(world)
    for job_id in jobs:
        await runs(world, job_id)
    assert len(await world.stage.published(LaunchesResumed)) == 1
    assert {(await world.status(each))["status"] for each in jobs} == {"DONE"}


async def test_what_opened_the_breaker_is_forgiven_after_the_pause_too(world: World) -> None:
    jobs = [(await world.post())["id"] for _ in range(6)]
    for job_id in jobs[:5]:
        await boots_in_vain(world, job_id)
    await pass_pause(world)
    await runs(world, jobs[5])
    await boots_in_vain(world, jobs[0], 2)
    assert (await world.status(jobs[0]))["status"] == "SCHEDULED"
    await boots_in_vain(world, jobs[0], 3)
    assert (await world.status(jobs[0]))["status"] == "FAILED"


async def test_many_ends_in_one_batch_are_one_fault(world: World) -> None:
    jobs = [(await world.post())["id"] for _ in range(4)]
    for job_id in jobs:
        await boots_in_vain(world, job_id)
    await world.deliver(*(world.launched(each, 2) for each in jobs))
    await world.deliver(*(off(world, each, 2) for each in jobs))
    assert await world.stage.published(JobFinished) == []


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("Client.VolumeLimitExceeded", "ask AWS for more: Service Quotas"),
        ("Client.InternalError", "use the KMS key of the volumes"),
        ("Client.InvalidSnapshot.NotFound", "DOCKER_JOB_EC2_IMAGE_ID"),
    ],
)
async def test_what_ec2_names_as_the_account_s_fault_is_shown_until_it_is_mended(
    world: World, code: str, change: str
) -> None:
    job_id = (await world.post())["id"]
    for attempt in range(1, 30):
        end = replace(world.terminated(job_id, attempt), cause=code)
        await world.deliver(world.launched(job_id, attempt), end)
    status = await world.status(job_id)
    assert (status["status"], status["attempt"]) == ("SCHEDULED", 30)
    assert code in status["waiting_because"]
    assert change in status["waiting_because"]
    assert status["budgets"]["interruptions"]["used"] == 0
    answer = await ready(world)
    assert (answer.status_code, answer.json()["degraded"]) == (200, ["launches"])
    assert change in answer.json()["message"]
    ended = await world.stage.published(AttemptEnded)
    assert all(each.boot_failed and each.account_fault for each in ended)
    assert await world.stage.published(LaunchesPaused) == []  # one job alone
    await runs(world, job_id)
    assert (await world.status(job_id))["status"] == "DONE"
    assert (await ready(world)).json() == {"status": "ready"}


async def test_a_job_above_a_quota_pauses_no_other_whose_instance_fails_to_boot_once(
    world: World,
) -> None:
    big, other = [(await world.post())["id"] for _ in range(2)]
    for attempt in range(1, 10):
        end = replace(world.terminated(big, attempt), cause="Client.VolumeLimitExceeded")
        await world.deliver(world.launched(big, attempt), end)
    await boots_in_vain(world, other)
    assert await world.stage.published(LaunchesPaused) == []
    for attempt in range(10, 20):
        end = replace(world.terminated(big, attempt), cause="Client.VolumeLimitExceeded")
        await world.deliver(world.launched(big, attempt), end)
    assert await world.stage.published(LaunchesPaused) == []


async def test_a_pause_for_instances_that_never_claim_names_what_to_change(
    world: World, clock: VirtualClock
) -> None:
    jobs = [(await world.post())["id"] for _ in range(5)]
    await world.deliver(*(world.launched(each) for each in jobs))
    clock.advance(900)
    await world.stage.sweep("end_silent")
    paused = await latest_pause(world)
    assert paused.to_change == CHECK
    assert CHECK in paused.message
    assert paused.message.endswith("of its launch (m7g.medium in us-east-1a)")
    assert CHECK in (await ready(world)).json()["message"]


async def test_the_console_that_comes_in_the_pause_is_published_and_shown_to_users_alone(
    world: World, clock: VirtualClock
) -> None:
    jobs = [(await world.post())["id"] for _ in range(5)]
    await world.deliver(*(world.launched(each) for each in jobs))
    clock.advance(900)
    await world.stage.sweep("end_silent")
    first = await latest_pause(world)
    for job_id in jobs:  # the reaper reads the console before it terminates the instance
        await world.deliver(replace(off(world, job_id), cause="lost"))
    [_, again] = await world.stage.published(LaunchesPaused)
    assert (again.sequence, again.until) == (first.sequence + 1, first.until)
    assert again.message.endswith(f"its console: {CONSOLE.splitlines()[-1]}")
    waits = replace(
        world.delayed(jobs[0], 2, again.message), to_change=again.to_change, pause_sequence=2
    )
    other = replace(world.delayed(jobs[1], 2, again.message), to_change="another thing")
    await world.deliver(waits, other)
    assert "Docker does not run" in (await world.status(jobs[0]))["waiting_because"]
    text = (await ready(world)).text
    assert CHECK in text
    assert "Docker does not run" not in text
    assert text.count("launches are paused") == 1  # for whatever they wait, it is one pause
