"""Bootstrap tokens: each is good for one claim of its own attempt, once that is requested."""

from datetime import timedelta

import pytest

from shared.clock import VirtualClock
from tests.support.api.api_world import World, message_of, token_of

HOUR = 3600
NO_BOOTSTRAP = "this is not the bootstrap token of that attempt"


async def test_before_its_attempt_is_due_a_token_claims_nothing(
    world: World, clock: VirtualClock
) -> None:
    at = (clock.now() + timedelta(seconds=HOUR)).isoformat()
    job_id = (await world.post(scheduled_for=at, secret_env=None))["id"]
    before = await world.rows()
    tries = [0, HOUR / 2, HOUR / 2 - 6]
    refused = 0
    for passed in tries:
        clock.advance(passed)
        answer = await world.claim(job_id)
        assert (answer.status_code, message_of(answer)) == (401, NO_BOOTSTRAP)
        answer = await world.claim(job_id, interrupted=True)
        assert (answer.status_code, message_of(answer)) == (401, NO_BOOTSTRAP)
        refused += 2
    assert await world.rows() == before
    print(f"{refused} of {2 * len(tries)} early claims refused, nothing written")
    clock.advance(6)
    assert (await world.claim(job_id)).status_code == 200, "before its launch is reported"


async def test_an_early_launch_that_is_reported_may_claim(
    world: World, clock: VirtualClock
) -> None:
    """The scheduler's clock was ahead: the instance exists."""
    at = (clock.now() + timedelta(seconds=HOUR)).isoformat()
    job_id = (await world.post(scheduled_for=at))["id"]
    await world.deliver(world.launched(job_id))
    assert (await world.claim(job_id)).status_code == 200


@pytest.mark.parametrize("attempt", [2, 3, 2**31 - 1])
async def test_of_an_attempt_that_does_not_exist_no_token_counts(
    world: World, attempt: int
) -> None:
    job_id = (await world.post())["id"]
    before = await world.rows()
    answer = await world.claim(job_id, attempt)
    assert (answer.status_code, message_of(answer)) == (401, NO_BOOTSTRAP)
    assert await world.rows() == before


async def test_a_token_whose_attempt_is_claimed_gives_no_other_agent_the_job(world: World) -> None:
    agent = await world.running(env_vars={"A": "canary-env"})
    before = await world.rows()
    tries = [
        await world.claim(agent.job_id, token="0" * 64),
        await world.claim(agent.job_id, token="0" * 64, instance="i-another"),
        await world.claim(agent.job_id, instance="i-another"),
        await world.claim(agent.job_id, token=agent.token, instance="i-another"),
    ]
    refused = sum(each.status_code == 409 for each in tries)
    print(f"{refused} of {len(tries)} claims of a claimed attempt refused")
    assert refused == len(tries)
    assert all("canary-env" not in each.text for each in tries)
    assert await world.rows() == before


@pytest.mark.parametrize("end", ["done", "cancelled"])
async def test_a_token_whose_attempt_has_ended_claims_nothing(world: World, end: str) -> None:
    agent = await world.running(env_vars={"A": "canary-env"})
    if end == "done":
        assert (await world.call_back(agent, {})).status_code == 200
    else:
        await world.cancel(agent.job_id)
    before = await world.rows()
    for token in (agent.token, token_of(agent.job_id, 1, "another")):
        answer = await world.claim(agent.job_id, token=token)
        assert (answer.status_code, answer.json()["stop"]) == (409, True)
        assert "canary-env" not in answer.text
    assert await world.rows() == before
