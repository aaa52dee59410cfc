"""An outage of the API or its database does not count as silence of agents, and loses no result."""

from shared.clock import VirtualClock
from shared.events.events import AttemptEnded, JobScheduled
from tests.support.api.api_world import Agent, World


async def answer(world: World, clock: VirtualClock, seconds: float) -> None:
    """Let the API answer for so long, with all of its sweeps; no agent calls."""
    for _ in range(round(seconds / 2)):
        clock.advance(2)
        await world.stage.sweep("record_availability")
        await world.stage.sweep("end_silent")


async def beat(world: World, agent: Agent) -> None:
    await world.stage.sweep("record_availability")
    assert (await world.report(agent)).status_code == 200


async def cause(world: World, job_id: int) -> str | None:
    found: str | None = (await world.status(job_id))["attempts"][0].get("cause")
    return found


async def test_a_result_that_waited_for_the_end_of_an_outage_is_kept(
    world: World, clock: VirtualClock
) -> None:
    agent = await world.running()
    await beat(world, agent)
    clock.advance(135)  # nothing is recorded
    await world.stage.sweep("end_silent")  # before the first record, as at a start
    await answer(world, clock, 8)
    received = await world.call_back(agent, {"exit_code": 0})
    assert received.status_code == 200
    status = await world.status(agent.job_id)
    assert (status["status"], len(status["attempts"])) == ("DONE", 1)
    assert [each.cause for each in await world.stage.published(AttemptEnded)] == ["done"]


async def test_an_agent_that_stays_silent_after_an_outage_is_lost_when_its_window_is_used_up(
    world: World, clock: VirtualClock
) -> None:
    agent = await world.running()
    await beat(world, agent)
    await answer(world, clock, 20)
    clock.advance(75)
    await answer(world, clock, 48)  # 10 of them are the agents' to try again
    assert await cause(world, agent.job_id) is None
    await answer(world, clock, 4)
    assert await cause(world, agent.job_id) == "lost"
    assert len(await world.stage.published(AttemptEnded)) == 1


async def test_a_silent_agent_is_lost_though_the_api_restarts_every_minute(
    world: World, clock: VirtualClock
) -> None:
    agent = await world.running()
    await beat(world, agent)
    for _ in range(2):
        await answer(world, clock, 54)
        clock.advance(6)
    assert await cause(world, agent.job_id) == "lost"


async def test_boot_time_is_counted_in_the_time_that_could_be_answered(
    world: World, clock: VirtualClock
) -> None:
    job_id = (await world.post())["id"]
    await world.deliver(world.launched(job_id))
    await world.stage.sweep("record_availability")
    clock.advance(1000)
    await world.stage.sweep("end_silent")
    await answer(world, clock, 890)
    assert await cause(world, job_id) is None
    await answer(world, clock, 22)
    assert await cause(world, job_id) == "lost"


async def test_a_launch_that_is_recorded_late_still_has_its_boot_time(
    world: World, clock: VirtualClock
) -> None:
    job_id = (await world.post())["id"]
    launched = world.launched(job_id)
    clock.advance(3600)  # the broker was away, the API was not
    await world.deliver(launched)
    await world.stage.sweep("end_silent")
    assert await cause(world, job_id) is None
    assert (await world.claim(job_id)).status_code == 200


async def test_the_clouds_event_ends_the_waiting_at_once(world: World, clock: VirtualClock) -> None:
    agent = await world.running()
    await beat(world, agent)
    clock.advance(75)
    await world.stage.sweep("record_availability")
    await world.stage.sweep("end_silent")
    assert await cause(world, agent.job_id) is None
    await world.deliver(world.terminated(agent.job_id))
    assert await cause(world, agent.job_id) == "lost"
    assert len(await world.stage.published(JobScheduled)) == 2


async def test_while_one_replica_answers_there_is_no_outage(
    world: World, clock: VirtualClock
) -> None:
    agent = await world.running()
    other = world.again()
    await beat(world, agent)
    await answer(other, clock, 60)  # this one has stopped
    await world.stage.sweep("record_availability")
    await world.stage.sweep("end_silent")
    assert await cause(world, agent.job_id) == "lost"
    assert await world.stage.rows("SELECT * FROM outages") == []
    await other.close()


async def test_an_outage_that_one_replica_recorded_counts_for_all(
    world: World, clock: VirtualClock
) -> None:
    agent = await world.running()
    other = world.again()
    await beat(world, agent)
    clock.advance(75)
    await other.stage.sweep("record_availability")
    await world.stage.sweep("record_availability")
    await answer(world, clock, 30)
    await other.stage.sweep("end_silent")
    assert await cause(world, agent.job_id) is None
    assert len(await world.stage.rows("SELECT * FROM outages")) == 1
    await other.close()


async def test_old_outages_are_deleted(world: World, clock: VirtualClock) -> None:
    await world.stage.sweep("record_availability")
    clock.advance(60)
    await world.stage.sweep("record_availability")
    await world.stage.sweep("prune_outages")
    assert len(await world.stage.rows("SELECT * FROM outages")) == 1
    clock.advance(31 * 86_400)
    await world.stage.sweep("prune_outages")
    assert await world.stage.rows("SELECT * FROM outages") == []
