"""What a job says that it waits for, as users read it."""

from datetime import timedelta

from shared.clock import VirtualClock
from tests.support.api.api_world import World

FAILED = {"failed": "", "error_message": "no such host", "pull_failed": True}


async def test_status_and_list_show_the_next_retry_and_the_reason_of_the_last_attempt(
    world: World, clock: VirtualClock
) -> None:
    agent = await world.running()
    await world.call_back(agent, FAILED)
    job = await world.status(agent.job_id)
    retry_at = job["waiting_until"]
    assert job["waiting_because"] == (
        f"retry 1 of 3 at {retry_at[11:19]}Z: image pull failed: no such host"
    )
    assert job["error_message"] is None
    [listed] = (await world.http.get("/list")).json()
    shown = ("phase", "waiting_because", "waiting_until")
    assert [listed[name] for name in shown] == [job[name] for name in shown]

    clock.advance(timedelta(minutes=1).total_seconds())
    [listed] = (await world.http.get("/list")).json()
    assert listed["waiting_until"] is None
    assert listed["waiting_because"].startswith("due ")
    assert listed["waiting_because"].endswith(
        " ago; no launch reported yet; retry 1 of 3: image pull failed: no such host"
    )


async def test_the_reason_ends_with_the_wait(world: World) -> None:
    agent = await world.running()
    await world.call_back(agent, FAILED)
    await world.deliver(world.launched(agent.job_id, 2))
    booting = await world.status(agent.job_id)
    assert booting["waiting_because"].endswith(
        " is booting; retry 1 of 3: image pull failed: no such host"
    )
    again = await world.claimed(agent.job_id, 2)
    await world.report(again, phase="running")
    assert (await world.status(agent.job_id))["waiting_because"] is None
