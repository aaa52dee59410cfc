"""The API while the broker is away: it takes jobs, and publishes their events once it is back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from operations.wiring import TOPOLOGY
from shared.bus.port import BusUnavailable
from shared.bus.rabbitmq import RabbitMQBus, declare_topology
from shared.clock import VirtualClock
from shared.crash_points import WatchedPoints
from shared.events import cloudevents
from shared.events.events import JobScheduled
from shared.postgres.pool import Database
from shared.postgres.wakeups import Wakeups
from shared.runtime.service import Ports
from tests.support.api.api_world import World, message_of
from tests.support.servers.rabbitmq_kinds import RabbitServer
from tests.support.servers.rabbitmq_server import fresh_vhost

JOBS = 20


@pytest.fixture
def broker(broker_to_break: RabbitServer) -> RabbitServer:
    return broker_to_break


@pytest.fixture
def url(broker: RabbitServer) -> Iterator[str]:
    with fresh_vhost(broker, remove=False) as vhost_url:
        asyncio.run(declare_topology(vhost_url, TOPOLOGY))
        yield vhost_url


@pytest.fixture
async def world_at_broker(
    service_db: Callable[[str], Awaitable[Database]],
    clock: VirtualClock,
    points: WatchedPoints,
    url: str,
) -> AsyncIterator[World]:
    """Make the API on that broker."""
    db = await service_db("api")
    bus = RabbitMQBus(url, TOPOLOGY)
    wakeups = Wakeups(db.dsn, channel="api", identity="test")
    world = World(Ports(db=db, bus=bus, clock=clock, wakeups=wakeups, points=points), clock)
    yield world
    await world.close()
    await bus.close()


async def drained(world: World) -> None:
    """Relay until all is published, as the service does: a failed pass is repeated."""
    async with asyncio.timeout(60):
        while await world.stage.rows("SELECT 1 FROM outbox WHERE published_at IS NULL LIMIT 1"):
            with contextlib.suppress(BusUnavailable):
                await world.stage.sweep("relay_outbox")


async def received(url: str) -> list[int]:
    """Return the jobs whose event is in the scheduler's queue."""
    bus = RabbitMQBus(url, TOPOLOGY)
    found: list[int] = []
    subscription = await bus.subscribe("scheduler")
    async with asyncio.timeout(30):
        while len(set(found)) < JOBS:
            for delivery in await subscription.take(100):
                message = delivery.message
                for each in cloudevents.decode(message.name, message.body).envelopes:
                    assert isinstance(each.body, JobScheduled)
                    found.append(each.body.job_id)
                await delivery.ack()
    await bus.close()
    return found


@pytest.mark.timeout(240)
@pytest.mark.parametrize("fault", ["killed", "frozen"])
async def test_while_the_broker_is_away_jobs_are_accepted_and_their_events_published_afterwards(
    broker: RabbitServer, world_at_broker: World, url: str, fault: str
) -> None:
    world = world_at_broker
    assert (await world.http.get("/readyz")).status_code == 200
    await asyncio.to_thread(broker.kill if fault == "killed" else broker.freeze)
    try:
        jobs = [(await world.post())["id"] for _ in range(JOBS)]
        with pytest.raises(BusUnavailable):
            await world.stage.sweep("relay_outbox")
        rows = await world.stage.rows("SELECT published_at FROM outbox")
        assert [row["published_at"] for row in rows] == [None] * JOBS
        ready = await world.http.get("/readyz")
        assert (ready.status_code, ready.json()["degraded"]) == (200, ["bus"])
        trouble = "it cannot be reached" if fault == "killed" else "it does not answer within 2 s"
        assert message_of(ready).startswith(f"requests are served; the broker: {trouble}")
        await world.stage.sweep("watch_launch_path")
        because = (await world.status(jobs[0]))["waiting_because"]
        assert because == "due 0 s ago; the broker does not work now: events wait until it does"
    finally:
        await asyncio.to_thread(broker.start if fault == "killed" else broker.thaw)
    await drained(world)
    assert set(await received(url)) == set(jobs)
    await world.stage.sweep("watch_launch_path")
    because = (await world.status(jobs[0]))["waiting_because"]
    assert because == "due 0 s ago; the scheduler is not running"
    assert (await world.http.get("/readyz")).status_code == 200
