"""At most one container of a job runs, also when the cloud's lists do not show the first one.

API and reaper on one database. The agent is silent while its container runs on, and the cloud shows
the instance nowhere.
"""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from msgspec.structs import replace

from services.reaper.config import ReaperConfig
from services.reaper.service import build
from shared.clock import VirtualClock
from shared.events.events import (
    AttemptEnded,
    InstanceTerminated,
    InstanceUnconfirmed,
    JobScheduled,
)
from shared.runtime.service import Ports
from tests.support.api.api_world import World
from tests.support.compute.scripted_compute import ScriptedCompute
from tests.support.compute.stage import Stage

PortsOf = Callable[[str], Awaitable[Ports]]
SWEEPS = ("watch_instances", "confirm_missing", "terminate_ending")


@pytest.fixture
async def world(ports_of: PortsOf, clock: VirtualClock) -> AsyncIterator[World]:
    world = World(await ports_of("api"), clock)
    yield world
    await world.close()


async def attempts_scheduled(world: World) -> int:
    return len(await world.stage.published(JobScheduled))


async def test_the_next_attempt_is_held_while_the_first_instance_is_shown_nowhere(
    ports_of: PortsOf, world: World, clock: VirtualClock
) -> None:
    cloud = ScriptedCompute(clock)
    cloud.not_found_is_final = False
    cloud.ends_at_once = False
    reaper = Stage(build(ReaperConfig(), await ports_of("reaper"), cloud))
    agent = await world.running()
    instance_id = f"i-{agent.job_id}-1"
    instance = cloud.show(instance_id, agent.job_id)
    cloud.invisible.add(instance_id)
    await reaper.deliver(replace(world.launched(agent.job_id), launch_sequence=1))
    clock.advance(60)
    await world.stage.sweep("end_silent")
    await reaper.deliver(*await world.stage.published(AttemptEnded))

    async def watch_for(seconds: int) -> None:
        for _ in range(seconds // 15):
            clock.advance(15)
            for name in SWEEPS:
                await reaper.sweep(name)
            for kind in (InstanceUnconfirmed, InstanceTerminated):
                await world.deliver(*await reaper.published(kind))

    await watch_for(3600)
    assert await attempts_scheduled(world) == 1
    status = await world.status(agent.job_id)
    assert status["phase"] == "waiting"
    assert (
        f"instance {instance_id} of attempt 1 must be known to be terminated"
        in (status["waiting_because"])
    )
    assert "the cloud has shown it nowhere since" in status["waiting_because"]
    assert status["waiting_until"] is not None
    cloud.end(instance_id)
    cloud.shown_by_id[instance_id] = cloud.instances[instance_id]  # by its id alone
    assert instance.instance_id in cloud.invisible
    await watch_for(45)
    assert await attempts_scheduled(world) == 2
    assert (await world.status(agent.job_id))["phase"] == "launching"
