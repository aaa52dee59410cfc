"""The lifetime of an attempt's token: while its attempt lives, and no longer than it can.

Who else may not speak for an attempt is in `test_api_agents.py`.
"""

import pytest

from shared.clock import VirtualClock
from tests.support.api.api_world import Agent, World, message_of, token_of

HOUR = 3600
STOP_SECONDS = 20  # a container's grace and some: until then last lines and the exit code are kept
NO_TOKEN = "give the attempt's token as 'Authorization: Bearer …'"
ENDS = ["its own final callback", "a cancel", "its silence"]


async def end(world: World, clock: VirtualClock, agent: Agent, how: str) -> None:
    """End the attempt of *agent*, and its container's time to stop."""
    if how == "a cancel":
        await world.cancel(agent.job_id)
        clock.advance(STOP_SECONDS)
    elif how == "its silence":
        clock.advance(61)
        await world.stage.sweep("end_silent")
    else:
        await world.call_back(agent, {})


@pytest.mark.parametrize("how", ENDS)
async def test_at_its_attempts_end_a_token_can_change_nothing_any_more(
    world: World, clock: VirtualClock, how: str
) -> None:
    agent = await world.running()
    await end(world, clock, agent, how)
    before = await world.rows()
    for answer in (
        await world.report(agent),
        await world.report(agent, phase="stopping", lines=["late"]),
        await world.call_back(agent, {"failed": "", "error_message": "late"}),
    ):
        assert (answer.status_code, answer.json()["stop"]) == (409, True)
    assert await world.rows() == before


@pytest.mark.parametrize("how", ENDS)
async def test_an_hour_after_its_attempts_end_a_token_is_unknown(
    world: World, clock: VirtualClock, how: str
) -> None:
    agent = await world.running()
    await end(world, clock, agent, how)
    clock.advance(HOUR - 1 - (STOP_SECONDS if how == "a cancel" else 0))
    # One whose answer was lost still gets the confirmation that it was received.
    status = (await world.call_back(agent, {})).status_code
    assert status == (200 if how == ENDS[0] else 409)
    clock.advance(1)
    for answer in (await world.report(agent), await world.call_back(agent, {})):
        assert (answer.status_code, message_of(answer)) == (401, NO_TOKEN)


@pytest.mark.parametrize("launch_is_recorded", [True, False])
async def test_an_hour_after_the_maximum_lifetime_a_token_is_unknown_whatever_has_not_happened(
    world: World, clock: VirtualClock, *, launch_is_recorded: bool
) -> None:
    """The sweep that enforces the maximum lifetime has not run, and the agent kept reporting."""
    job_id = (await world.post())["id"]
    lifetime = float(world.config.rules.max_lifetime_seconds)
    if launch_is_recorded:
        launched = world.launched(job_id)
        lifetime = (launched.dies_by - launched.launched_at).total_seconds()
        await world.deliver(launched)
    assert (await world.claim(job_id)).status_code == 200
    agent = Agent(job_id, 1, token_of(job_id, 1))
    clock.advance(lifetime + HOUR - 1)
    assert (await world.report(agent)).status_code == 200
    clock.advance(1)
    before = await world.rows()
    for answer in (
        await world.report(agent),
        await world.report(agent, lines=["late"]),
        await world.call_back(agent, {}),
    ):
        assert (answer.status_code, message_of(answer)) == (401, NO_TOKEN)
    assert await world.rows() == before


async def test_an_expired_token_cannot_be_bound_again(world: World, clock: VirtualClock) -> None:
    agent = await world.running()
    await world.call_back(agent, {})
    clock.advance(2 * HOUR)
    job_id = (await world.post())["id"]
    await world.deliver(world.launched(job_id))
    answer = await world.claim(job_id, token=agent.token)
    message = "this token belongs to another attempt"
    assert (answer.status_code, message_of(answer)) == (409, message)
