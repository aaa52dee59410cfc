"""Instances that do not boot: the limit of a job, their consoles, and the pause of all launches."""

import itertools

import httpx
import pytest
from msgspec.structs import replace

from services.api.jobs.consoles import CHARACTERS
from shared.clock import VirtualClock
from shared.console_text import NOTE
from shared.events.events import (
    AttemptEnded,
    InstanceTerminated,
    JobFinished,
    LaunchDelayed,
    LaunchesPaused,
    LaunchesResumed,
)
from tests.support.api.api_world import World

CONSOLE = "Linux\ndocker-job: Docker does not run\n"


def off(world: World, job_id: int, attempt: int = 1) -> InstanceTerminated:
    """Return the end of an instance that has powered itself off."""
    return replace(
        world.terminated(job_id, attempt),
        cause="Client.InstanceInitiatedShutdown",
        console_output=CONSOLE,
    )


async def boots_in_vain(world: World, job_id: int, attempt: int = 1) -> None:
    await world.deliver(world.launched(job_id, attempt), off(world, job_id, attempt))


async def ready(world: World) -> httpx.Response:
    return await world.http.get("/readyz")


async def test_a_job_whose_instances_do_not_boot_fails_at_the_limit_and_shows_their_consoles(
    world: World, clock: VirtualClock
) -> None:
    job_id = (await world.post())["id"]
    await boots_in_vain(world, job_id)
    status = await world.status(job_id)
    assert (status["status"], status["attempt"]) == ("SCHEDULED", 2)
    await world.deliver(world.launched(job_id, 2))
    clock.advance(900)
    await world.stage.sweep("end_silent")
    status = await world.status(job_id)
    assert status["status"] == "FAILED"
    assert status["error_message"] == (
        f"gave up after 2 failed boots in a row (DOCKER_JOB_BOOT_LIMIT), of instances i-{job_id}-1"
        f", i-{job_id}-2: no claim by its instance within 900 s of its launch "
        "(m7g.medium in us-east-1a)"
    )
    assert [each["boot_failed"] for each in status["attempts"]] == [True, True]
    assert [each["console_output"] for each in status["attempts"]] == [CONSOLE.strip(), None]
    # The reaper reads the console before it terminates the instance: it comes with its end.
    await world.deliver(replace(off(world, job_id, 2), cause="lost"))
    status = await world.status(job_id)
    assert status["attempts"][1]["console_output"] == CONSOLE.strip()
    assert status["error_message"].endswith("; its console: docker-job: Docker does not run")
    ended = await world.stage.published(AttemptEnded)
    assert [each.boot_failed for each in ended] == [True, True]
    [finished] = await world.stage.published(JobFinished)
    assert finished.cause == "lost"


@pytest.mark.parametrize("order", [1, -1])
async def test_a_longer_console_takes_the_place_of_an_early_one_in_either_order(
    world: World, order: int
) -> None:
    job_id = (await world.post())["id"]
    for attempt in (1, 2):
        await world.deliver(world.launched(job_id, attempt))
        for console in ("Linux", CONSOLE)[::order]:
            await world.deliver(replace(off(world, job_id, attempt), console_output=console))
    status = await world.status(job_id)
    assert [each["console_output"] for each in status["attempts"]] == [CONSOLE.strip()] * 2
    last = "; its console: docker-job: Docker does not run"
    for message in (status["error_message"], *(e["error_message"] for e in status["attempts"])):
        assert message.endswith(last)
        assert message.count("its console") == 1
    assert len(await world.stage.published(JobFinished)) == 1


async def test_a_console_that_comes_late_takes_the_place_of_a_note(world: World) -> None:
    job_id = (await world.post())["id"]
    note = f"{NOTE}no answer]"
    for attempt in (1, 2):
        await world.deliver(world.launched(job_id, attempt))
        await world.deliver(replace(off(world, job_id, attempt), console_output=note))
    before = await world.status(job_id)
    assert before["status"] == "FAILED"
    assert before["error_message"].endswith(note)
    for console in (CONSOLE, note, "another"):
        await world.deliver(replace(off(world, job_id, 2), console_output=console))
    status = await world.status(job_id)
    assert [each["console_output"] for each in status["attempts"]] == [note, CONSOLE.strip()]
    last = "; its console: docker-job: Docker does not run"
    for message in (status["error_message"], status["attempts"][1]["error_message"]):
        assert message.endswith(last)
        assert NOTE not in message
    assert len(await world.stage.published(JobFinished)) == 1


async def test_launch_and_end_of_a_failed_boot_in_either_order_end_alike(world: World) -> None:
    ends = []
    for order in itertools.permutations(range(2)):
        job_id = (await world.post())["id"]
        facts = (world.launched(job_id), off(world, job_id))
        await world.deliver(*(facts[index] for index in order))
        first = (await world.status(job_id))["attempts"][0]
        ends.append((first["cause"], first["boot_failed"], first["console_output"]))
    assert ends == [("lost", True, CONSOLE.strip())] * 2


async def test_the_limit_is_a_setting(world: World) -> None:
    patient = world.again(BOOT_LIMIT="3")
    job_id = (await patient.post())["id"]
    for attempt in (1, 2):
        await boots_in_vain(patient, job_id, attempt)
    assert (await patient.status(job_id))["status"] == "SCHEDULED"
    await boots_in_vain(patient, job_id, 3)
    assert (await patient.status(job_id))["status"] == "FAILED"
    await patient.close()


async def test_the_time_in_which_no_agent_could_be_answered_makes_no_failed_boot(
    world: World, clock: VirtualClock
) -> None:
    job_id = (await world.post())["id"]
    await world.stage.sweep("record_availability")
    await world.deliver(world.launched(job_id))
    clock.advance(3600)  # the API was down
    await world.stage.sweep("record_availability")
    await world.stage.sweep("end_silent")
    assert (await world.status(job_id))["phase"] == "booting"
    assert (await ready(world)).json() == {"status": "ready"}


async def test_a_hostile_console_is_bounded_and_without_control_characters(world: World) -> None:
    job_id = (await world.post())["id"]
    hostile = "\x1b[2J\x00\u202e" + "A" * 10_000 + "\x1b]0;title\x07\n\x1b[31mla\0st"
    await world.deliver(world.launched(job_id), replace(off(world, job_id), console_output=hostile))
    first = (await world.status(job_id))["attempts"][0]
    assert len(first["console_output"]) <= CHARACTERS
    assert not set(first["console_output"]) & {"\x1b", "\x00", "\x07", "\u202e"}
    assert first["console_output"].endswith("]0;title\n[31mlast")
    assert first["error_message"].endswith("; its console: [31mlast")


async def test_the_console_of_an_attempt_that_booted_is_not_kept(world: World) -> None:
    agent = await world.running()
    await world.call_back(agent, {})
    await world.deliver(off(world, agent.job_id))
    assert (await world.status(agent.job_id))["attempts"][0]["console_output"] is None


async def test_failed_boots_in_a_row_pause_launching_and_a_claim_resumes_it(
    world: World, clock: VirtualClock
) -> None:
    jobs = [(await world.post())["id"] for _ in range(3)]
    for job_id, attempt in ((0, 1), (0, 2), (1, 1), (1, 2)):
        await boots_in_vain(world, jobs[job_id], attempt)
    assert await world.stage.published(LaunchesPaused) == []
    await boots_in_vain(world, jobs[2])
    [paused] = await world.stage.published(LaunchesPaused)
    assert (paused.sequence, paused.failures) == (1, 5)
    assert 225 <= (paused.until - clock.now()).total_seconds() <= 300
    assert paused.message.endswith("its console: docker-job: Docker does not run")
    answer = await ready(world)
    assert (answer.status_code, answer.json()["degraded"]) == (200, ["launches"])
    assert "5 instances in a row have not booted" in answer.json()["message"]
    assert "Docker does not run" not in answer.text  # nobody who asks has shown a key
    clock.advance((paused.until - clock.now()).total_seconds() + 1)
    await world.deliver(world.launched(jobs[2], 2))
    await world.claimed(jobs[2], 2)
    [resumed] = await world.stage.published(LaunchesResumed)
    assert resumed.sequence == 2
    assert (await ready(world)).json() == {"status": "ready"}


async def test_a_trial_that_does_not_boot_pauses_again_for_longer(
    world: World, clock: VirtualClock
) -> None:
    jobs = [(await world.post())["id"] for _ in range(5)]
    for job_id in jobs:
        await boots_in_vain(world, job_id)
    [first] = await world.stage.published(LaunchesPaused)
    clock.advance((first.until - clock.now()).total_seconds() + 1)
    await boots_in_vain(world, jobs[0], 2)
    [_, second] = await world.stage.published(LaunchesPaused)
    assert (second.sequence, second.failures) == (2, 6)
    assert (second.until - clock.now()).total_seconds() > 400


async def test_a_claim_in_between_means_that_instances_boot(world: World) -> None:
    jobs = [(await world.post())["id"] for _ in range(9)]
    for index, job_id in enumerate(jobs):
        await world.deliver(world.launched(job_id))
        if index == 4:
            await world.claimed(job_id)
        else:
            await world.deliver(off(world, job_id))
    assert await world.stage.published(LaunchesPaused) == []
    assert await world.stage.published(LaunchesResumed) == []


async def test_a_launcher_that_has_lost_the_end_of_a_pause_gets_it_again(world: World) -> None:
    job_id = (await world.post())["id"]
    waits = LaunchDelayed(
        job_id=job_id,
        attempt=1,
        reason="unknown_outcome",
        message="launches are paused: 5 instances in a row have not booted",
        next_try_at=world.clock.now(),
        pause_sequence=7,
    )
    await world.deliver(waits)
    [resumed] = await world.stage.published(LaunchesResumed)
    assert resumed.sequence == 8
    assert (await world.status(job_id))["waiting_because"] == waits.message


async def test_the_pause_that_a_launcher_waits_for_is_not_ended_by_its_delay(world: World) -> None:
    jobs = [(await world.post())["id"] for _ in range(5)]
    for job_id in jobs:
        await boots_in_vain(world, job_id)
    waits = LaunchDelayed(
        job_id=jobs[0],
        attempt=2,
        reason="unknown_outcome",
        message="launches are paused",
        next_try_at=world.clock.now(),
        pause_sequence=1,
    )
    await world.deliver(waits)
    assert await world.stage.published(LaunchesResumed) == []
