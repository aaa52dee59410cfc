"""At most one container of a job runs: on the strict EC2 the next one is held until the first ends.

API and reaper on one database. The agent is silent while its instance runs on, and EC2's lists do
not show it. The cloud's own register is the witness of what runs.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from msgspec.structs import replace

from services.reaper.config import ReaperConfig
from services.reaper.service import build
from shared.backoff import Backoff
from shared.clock import RealClock, VirtualClock
from shared.events.events import (
    AttemptEnded,
    InstanceTerminated,
    InstanceUnconfirmed,
    JobScheduled,
)
from shared.runtime.service import Ports
from tests.integration.test_ec2_reaper import launch_events, launched
from tests.support.api.api_world import Agent, World, token_of
from tests.support.compute.compute_adapters import eventually
from tests.support.compute.compute_api import FakeApi
from tests.support.compute.compute_ec2 import Ec2World
from tests.support.compute.stage import Stage

PortsOf = Callable[[str], Awaitable[Ports]]
CONFIG = ReaperConfig(
    confirm=Backoff(first=0.02, factor=2, longest=0.2),
    lease_seconds=0.2,
    orphan_seconds=60,
    visibility_seconds=0.3,
    ask_seconds=0.05,
    not_found_seconds=2,
)
SWEEPS = ("terminate_ending", "watch_instances", "confirm_missing")
SILENT_SECONDS = 90.0
WATCHED_SECONDS = 3.0


class Ahead(RealClock):
    """The real clock, and a time that passes at once."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.seconds)


@pytest.fixture
def clock() -> Ahead:
    return Ahead()


@pytest.fixture
async def world(ports_of: PortsOf, clock: Ahead) -> AsyncIterator[World]:
    world = World(await ports_of("api"), cast(VirtualClock, clock))
    yield world
    await world.close()


@pytest.fixture
async def ec2() -> AsyncIterator[Ec2World]:
    ec2 = Ec2World(FakeApi(), boot="none", terminated_tags_seconds=0.0)
    yield ec2
    await ec2.close()


@pytest.fixture
async def reaper(ports_of: PortsOf, ec2: Ec2World) -> Stage:
    return Stage(build(CONFIG, await ports_of("reaper"), ec2.adapter()))


async def running(world: World, reaper: Stage, ec2: Ec2World) -> str:
    """Run job 1 on an instance of EC2; return the instance's id."""
    job_id = (await world.post())["id"]
    [instance] = await launched(ec2.adapter(), 1)
    [event] = launch_events([instance])
    event = replace(event, job_id=job_id, dies_by=event.launched_at + timedelta(days=1))
    await world.deliver(event)
    await reaper.deliver(event)
    answer = await world.claim(job_id, instance=instance.instance_id)
    assert answer.status_code == 200, answer.text
    agent = Agent(job_id, 1, token_of(job_id, 1))
    assert (await world.report(agent, phase="running")).status_code == 200
    return instance.instance_id


async def sweep(world: World, reaper: Stage) -> int:
    """Run the reaper's sweeps; return how many attempts the API has scheduled after them."""
    for name in SWEEPS:
        await reaper.sweep(name)
    for kind in (InstanceUnconfirmed, InstanceTerminated):
        await world.deliver(*await reaper.published(kind))
    return len(await world.stage.published(JobScheduled))


@pytest.mark.parametrize("by_id", [False, True])
async def test_no_second_container_starts_while_the_first_may_run(
    world: World, reaper: Stage, ec2: Ec2World, clock: Ahead, *, by_id: bool
) -> None:
    """By its id EC2 shows it; or only its Spot request shows that it runs."""
    control = ec2.cloud.control
    instance_id = await running(world, reaper, ec2)
    control.hide(instance_id, by_id=by_id)
    control.ignore_terminations(10_000)  # its container stops for nothing
    clock.seconds = SILENT_SECONDS
    await world.stage.sweep("end_silent")
    await reaper.deliver(*await world.stage.published(AttemptEnded))
    until = clock.now() + timedelta(seconds=WATCHED_SECONDS)

    async def watched() -> bool:
        assert await sweep(world, reaper) == 1
        return clock.now() > until

    await eventually(watched)
    assert control.running() == [instance_id]
    status = await world.status(1)
    assert status["phase"] == "waiting"
    because = status["waiting_because"]
    assert f"instance {instance_id} of attempt 1 must be known to be terminated" in because

    control.ignore_terminations(0)
    control.reveal()

    async def scheduled() -> bool:
        # Asked before the sweep: what runs then may have ended since, and not the other way round.
        runs = control.running()
        count = await sweep(world, reaper)
        assert count == 1 or not runs or not control.running()
        return count == 2

    await eventually(scheduled)
    assert control.running() == []
    [end] = await reaper.published(InstanceTerminated)
    assert (end.instance_id, end.cause) == (instance_id, "lost")
    assert (await world.status(1))["phase"] == "launching"


async def test_not_found_lets_the_next_container_start_only_after_the_whole_time(
    world: World, reaper: Stage, ec2: Ec2World, clock: Ahead
) -> None:
    instance_id = await running(world, reaper, ec2)
    ec2.cloud.control.hide(instance_id, by_id=True, request=True)
    clock.seconds = SILENT_SECONDS
    await world.stage.sweep("end_silent")
    await reaper.deliver(*await world.stage.published(AttemptEnded))
    since = clock.now()

    async def scheduled() -> bool:
        return await sweep(world, reaper) == 2

    await eventually(scheduled)
    assert clock.now() - since >= timedelta(seconds=CONFIG.not_found_seconds)
    [end] = await reaper.published(InstanceTerminated)
    assert (end.instance_id, end.cost_usd) == (instance_id, None)
