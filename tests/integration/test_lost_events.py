"""A lost queue loses no fact: what had no consequence is published again, and the job ends once.

On a real broker, whose queue is deleted while it holds an event, and declared again.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import pytest

from operations.wiring import SERVICES, TOPOLOGY
from shared.bus.rabbitmq import RabbitMQBus, declare_topology
from shared.clock import VirtualClock
from shared.crash_points import WatchedPoints
from shared.events.events import (
    InstanceLaunched,
    InstanceTerminated,
    JobFinished,
    LaunchesMissed,
    LaunchesReported,
)
from shared.postgres.pool import Database
from shared.postgres.wakeups import Wakeups
from shared.runtime.service import Ports
from tests.support.servers.rabbitmq_kinds import RabbitServer
from tests.support.servers.rabbitmq_server import fresh_vhost
from tests.support.systems.carried_services import STEP_SECONDS, CarriedServices


@pytest.fixture
async def four(
    service_db: Callable[[str], Awaitable[Database]],
    clock: VirtualClock,
    points: WatchedPoints,
    rabbitmq: RabbitServer,
) -> AsyncIterator[CarriedServices]:
    if rabbitmq.management_url is None:
        pytest.skip("without a management API no queue can be deleted")
    with fresh_vhost(rabbitmq) as url:
        await declare_topology(url, TOPOLOGY)
        ports = {}
        for name in (service.NAME for service in SERVICES):
            db = await service_db(name)
            wakeups = Wakeups(db.dsn, channel=name, identity="test")
            bus = RabbitMQBus(url, TOPOLOGY)
            ports[name] = Ports(db=db, bus=bus, clock=clock, wakeups=wakeups, points=points)
        made = CarriedServices(ports, clock, url, rabbitmq.management_url)
        yield made
        await made.world.close()
        for each in ports.values():
            await each.bus.close()


async def carry_until_published(four: CarriedServices, name: str, reader: str) -> None:
    """Carry a new job's events up to the one named *name*, which is in the queue of *reader*."""
    for service, sweep in (
        ("api", "ask_again"),
        ("scheduler", "fire_due"),
        ("launcher", "launch_due_1"),
    ):
        await four.stages[service].sweep(sweep)
        await four.relay()
        published = await four.stages[service].rows("SELECT name FROM outbox")
        for each in four.stages:
            if not (each == reader and name in {row["name"] for row in published}):
                await four.deliver(each)
        if name in {row["name"] for row in published}:
            return
    raise AssertionError(f"{name} was not published")


@pytest.mark.parametrize(
    ("publisher", "name", "reader"),
    [
        ("api", "JobScheduled", "scheduler"),
        ("scheduler", "InstanceRequested", "launcher"),
        ("launcher", "InstanceLaunched", "api"),
        ("launcher", "InstanceLaunched", "reaper"),
    ],
)
async def test_a_job_whose_event_is_lost_with_its_queue_is_done_once_on_one_instance(
    four: CarriedServices, publisher: str, name: str, reader: str
) -> None:
    job_id = int((await four.world.post())["id"])
    await carry_until_published(four, name, reader)
    assert await four.lose_queue(reader) == 1
    [lost] = await four.unreceived(publisher, reader)
    assert lost.name == name
    four.show_orphan()
    for _ in range(40):
        await four.step()
        await four.run_agents(job_id)
    status = await four.world.status(job_id)
    assert (status["status"], status["attempt"]) == ("DONE", 1)

    # One call to the cloud, one instance; it and the orphan are terminated, each by one event.
    assert len(four.cloud.questions) == 1
    assert sorted(four.cloud.instances) == ["i-1", "i-orphan"]
    assert len(await four.stages["api"].published(JobFinished)) == 1
    ended = await four.stages["reaper"].published(InstanceTerminated)
    assert len(ended) == 2
    assert {(each.instance_id, each.job_id) for each in ended} == {
        ("i-1", job_id),
        ("i-orphan", None),
    }
    missed = await four.stages["reaper"].published(LaunchesMissed)
    assert bool(missed) == (reader == "reaper")

    # Of all that was published, the readers lack the lost event alone; its repeat has come.
    missing = [
        each
        for service in four.stages
        for other in four.stages
        for each in await four.unreceived(service, other)
        if not isinstance(each.body, LaunchesReported)
    ]
    assert [each.id for each in missing] == [lost.id]
    launched = await four.stages["launcher"].published(InstanceLaunched)
    assert {each.launch_sequence for each in launched} == {1}
    parked = [await stage.rows("SELECT * FROM parked") for stage in four.stages.values()]
    assert parked == [[], [], [], []]


async def test_without_a_loss_nothing_is_published_twice(four: CarriedServices) -> None:
    job_id = int((await four.world.post())["id"])
    for _ in range(40):
        await four.step()
        await four.run_agents(job_id)
    names = [
        each.name
        for stage in four.stages.values()
        for each in await stage.outbox()
        if not isinstance(each.body, LaunchesReported)
    ]
    assert len(names) == len(set(names)) == 7


async def test_launches_that_are_lost_for_good_keep_orphans_only_for_a_lifetime(
    four: CarriedServices, clock: VirtualClock
) -> None:
    await four.world.post()
    await carry_until_published(four, "InstanceLaunched", "reaper")
    await four.lose_queue("reaper")
    launches = four.stages["launcher"]
    async with launches.ports.db.connection() as conn:
        await conn.execute("DELETE FROM launches")  # as after a week
    four.cloud.end("i-1")
    for _ in range(20):
        await four.step()
    assert await four.stages["reaper"].published(LaunchesMissed) != []
    clock.advance(timedelta(days=1).total_seconds())
    four.show_orphan()
    for _ in range(240 // STEP_SECONDS):
        await four.step()
    assert four.cloud.terminated == [["i-orphan"]]
