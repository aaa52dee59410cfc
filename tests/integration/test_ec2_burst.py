"""Five hundred jobs due in the same second, on the strict EC2 with the buckets that AWS publishes.

Nothing is sped up: the launcher runs as it does in production, by its own clock and wake-ups, and
new instances take up to five seconds to be shown.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from operations.wiring import TOPOLOGY
from services.launcher.config import LauncherConfig
from services.launcher.service import build
from shared.bus.memory import MemoryBus
from shared.bus.port import Message
from shared.clock import RealClock
from shared.compute.port import Offer
from shared.events.events import InstanceRequested
from shared.events.requirements import Requirements
from shared.runtime.service import Ports
from tests.support.compute.compute_adapters import eventually
from tests.support.compute.compute_api import FakeApi
from tests.support.compute.compute_ec2 import Ec2World
from tests.support.compute.stage import Stage
from tests.support.rows.messages import as_message, wrapped

JOBS = 500
MOST_SECONDS = 15
MOST_CALLS = 10


@pytest.fixture
def clock() -> RealClock:
    return RealClock()


@pytest.fixture
def bus() -> MemoryBus:
    """Open the launcher's queue alone, without other consumers."""
    return MemoryBus({"launcher": TOPOLOGY["launcher"]})


@pytest.fixture
async def world() -> AsyncIterator[Ec2World]:
    world = Ec2World(FakeApi(), boot="none", speed=1.0)
    yield world
    await world.close()


async def test_500_jobs_due_at_once_are_launched_in_a_handful_of_calls(
    world: Ec2World, ports_of: Callable[[str], Awaitable[Ports]]
) -> None:
    ports = await ports_of("launcher")
    config = LauncherConfig(deployment="test", api_url="http://api", token_key="key")
    compute = world.adapter()
    await compute.plan(Offer(deployment="test", api_url="http://api"))  # it has run for a while
    service = build(config, ports, compute)
    stage = Stage(service)
    running = asyncio.create_task(service.run())
    due_at = ports.clock.now()
    began = time.monotonic()
    await ports.bus.publish(
        [
            message(
                InstanceRequested(
                    job_id=job_id,
                    attempt=1,
                    due_at=due_at,
                    requirements=Requirements(max_lifetime_seconds=3600),
                ),
                ports,
            )
            for job_id in range(1, JOBS + 1)
        ]
    )

    async def all_launched() -> bool:
        (row,) = await stage.rows("SELECT count(*) AS n FROM launches WHERE state = 'launched'")
        return bool(row["n"] == JOBS)

    await eventually(all_launched)
    took = time.monotonic() - began
    service.drain()
    await running
    calls = world.cloud.control.calls("CreateFleet")
    described = world.cloud.control.calls("DescribeInstances")
    print(f"\n{JOBS} jobs due at once, all launched after {took:.2f} s")
    print(f"  {len(calls)} CreateFleet, {len(described)} DescribeInstances")
    for each in calls:
        print(f"  after {each.at - began:5.2f} s: {each.instances} instances, {each.outcome}")
    ids = {each["id"] for each in world.cloud.control.instances()}
    assert len(ids) == JOBS
    assert len(calls) <= MOST_CALLS
    assert took <= MOST_SECONDS


def message(event: InstanceRequested, ports: Ports) -> Message:
    """Build the event as the scheduler's relay would publish it."""
    return as_message(wrapped(event, at=ports.clock.now()))
