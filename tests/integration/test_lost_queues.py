"""A queue that is lost with its events: the migration brings both back."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aio_pika
import httpx
import pytest
import structlog

from operations.lost_events import resend_to
from operations.migrate import run as migrate
from operations.migrate import service_dsn
from operations.wiring import SERVICES, TOPOLOGY
from services import api, scheduler
from services.scheduler import service as scheduler_service
from services.scheduler.config import SchedulerConfig
from shared.bus.rabbitmq import RabbitMQBus, declare_topology
from shared.bus.rabbitmq.topology import EXCHANGE
from shared.clock import RealClock
from shared.events import events
from shared.events.events import JobScheduled
from shared.events.readers import READERS, queues_of
from shared.messaging import store as messaging
from shared.messaging.relay import Relay
from shared.postgres.pool import Database, connect, open_database
from shared.runtime.service import ports_for
from shared.settings import Settings
from tests.conftest import PASSWORDS
from tests.integration.test_restored import NOW, consume, publish, unsent
from tests.support.api.api_world import NEEDS
from tests.support.bus.broker_room import PASSWORDS as BUS_PASSWORDS
from tests.support.bus.broker_room import Room, migrated_room
from tests.support.bus.bus_room import bound_names
from tests.support.run.ports import free_port
from tests.support.servers.rabbitmq_kinds import RabbitServer
from tests.support.servers.rabbitmq_server import fresh_vhost
from tests.support.waiting import until_it_holds

NAMES = tuple(service.NAME for service in SERVICES)


@pytest.fixture
async def room(rabbitmq: RabbitServer) -> AsyncIterator[Room]:
    async with migrated_room(rabbitmq) as room:
        yield room


async def delete_queue(url: str, name: str) -> None:
    connection = await aio_pika.connect(url, timeout=10)
    async with connection, connection.channel() as channel:
        await channel.queue_delete(name)


def settings_of(room: Room, database_url: str) -> Settings:
    """Return the settings of a migration: logins as the services of this test have them."""
    given = {
        "DATABASE_URL": database_url,
        "BUS_URL": room.url,
        "BUS_USER": "guest",
        "BUS_PASSWORD": "guest",
        "BUS_MANAGEMENT_URL": room.management_url,
        "TOKEN_KEY": "0" * 64,
        **{f"{name.upper()}_DATABASE_PASSWORD": PASSWORDS[name] for name in NAMES},
        **{f"{name.upper()}_BUS_PASSWORD": BUS_PASSWORDS[name] for name in NAMES},
    }
    return Settings({f"DOCKER_JOB_{name}": value for name, value in given.items()})


def test_the_readers_of_each_event_are_the_services_that_consume_it() -> None:
    assert set(READERS) == set(events.ALL)
    consumers = {
        event: {service.NAME for service in SERVICES if event in service.CONSUMES}
        for event in READERS
    }
    assert {event: set(readers) for event, readers in READERS.items()} == consumers
    assert queues_of("api", api.PUBLISHES) == ("api", "launcher", "reaper", "scheduler")
    assert queues_of("scheduler", scheduler.PUBLISHES) == ("api", "launcher", "scheduler")


@pytest.mark.parametrize("lost", NAMES)
async def test_the_migration_lets_the_events_of_a_lost_queue_be_published_again(
    room: Room, database_url: str, lost: str
) -> None:
    conn = await connect(database_url)
    expected: dict[str, list[int]] = {name: [] for name in NAMES}
    for service in SERVICES:
        for event in service.PUBLISHES:
            row, event_id = await publish(conn, service.NAME, event.__name__, NOW)
            for reader in set(READERS[event]) - {lost}:
                await consume(conn, reader, event_id)
            if lost in READERS[event]:
                expected[service.NAME].append(row)
    await delete_queue(room.url, lost)
    with structlog.testing.capture_logs() as lines:
        await migrate(settings_of(room, database_url))
    assert {name: await unsent(conn, name) for name in NAMES} == expected
    [said] = [each for each in lines if "published again" in each["event"]]
    assert (said["queues"], said["messages"]) == ([lost], sum(map(len, expected.values())))
    with structlog.testing.capture_logs() as lines:
        await migrate(settings_of(room, database_url))  # as at each start
    assert not [each for each in lines if "published again" in each["event"]]
    await conn.close()


async def test_a_binding_that_is_gone_has_lost_events_too(room: Room, database_url: str) -> None:
    conn = await connect(database_url)
    lost, _ = await publish(conn, "launcher", "InstanceLaunched", NOW)  # the API's queue took it
    await publish(conn, "api", "JobScheduled", NOW)
    connection = await aio_pika.connect(room.url, timeout=10)
    async with connection, connection.channel() as channel:
        queue = await channel.get_queue("reaper", ensure=False)
        await queue.unbind(EXCHANGE, "InstanceLaunched")
    await migrate(settings_of(room, database_url))
    assert await unsent(conn, "launcher") == [lost]
    assert await unsent(conn, "api") == []
    await conn.close()


async def test_a_lost_volume_is_every_queue(
    rabbitmq: RabbitServer, room: Room, database_url: str
) -> None:
    conn = await connect(database_url)
    rows = [(await publish(conn, "api", "JobScheduled", NOW))[0] for _ in range(3)]
    with fresh_vhost(rabbitmq) as empty:
        elsewhere = Room(empty, room.management_url)
        await migrate(settings_of(elsewhere, database_url))
    assert await unsent(conn, "api") == rows
    await conn.close()


async def test_a_migration_that_is_killed_before_the_events_are_due_again_repeats_that(
    room: Room,
) -> None:
    asked: list[Sequence[str]] = []

    async def killed(queues: Sequence[str]) -> None:
        asked.append(queues)
        if len(asked) == 1:
            raise KeyboardInterrupt

    await delete_queue(room.url, "launcher")
    with pytest.raises(KeyboardInterrupt):
        await declare_topology(room.url, TOPOLOGY, killed)
    for _ in range(2):
        await declare_topology(room.url, TOPOLOGY, killed)
    assert asked == [["launcher"], ["launcher"]]


async def test_what_no_queue_took_is_due_at_once_when_the_queue_is_back(
    room: Room, database_url: str
) -> None:
    conn = await connect(database_url)
    row, _ = await publish(conn, "api", "JobScheduled", NOW)
    await conn.execute(
        "UPDATE api.outbox SET published_at = NULL, tries = 9, lease_until = 'infinity'"
    )
    assert await resend_to(database_url, ["scheduler"]) == 0
    found = await conn.fetchrow("SELECT id, tries, lease_until FROM api.outbox")
    assert tuple(found or ()) == (row, 0, None)
    await conn.close()


async def open_db(database_url: str, name: str) -> Database:
    return await open_database(service_dsn(database_url, name, PASSWORDS[name]), name, RealClock())


async def test_a_reader_without_its_queue_waits_and_says_so_and_then_gets_what_was_lost(
    room: Room, database_url: str
) -> None:
    db = {name: await open_db(database_url, name) for name in ("api", "scheduler")}
    bus = {name: RabbitMQBus(room.of(name), bound_names(TOPOLOGY)) for name in db}
    service = scheduler_service.build(
        SchedulerConfig(), ports_for(db["scheduler"], bus["scheduler"], RealClock())
    )
    relay = Relay(db["api"], bus["api"], service.ports.points)
    async with db["api"].transaction() as tx:
        due_at = tx.now
        event = JobScheduled(job_id=1, attempt=1, due_at=due_at, requirements=NEEDS)
        await messaging.publish(tx, [event])
    await relay.relay_outbox()  # and its queue is lost with it
    await delete_queue(room.url, "scheduler")
    with structlog.testing.capture_logs() as lines:
        running = asyncio.create_task(service.run())

        async def it_says_so() -> bool:
            return any("no queue 'scheduler'" in str(each) for each in lines)

        await until_it_holds(it_says_so)
        found = await service.look()
        assert "queue scheduler" in found.troubles
        assert "run the migration" in found.describe()
        assert not running.done()
        # Nothing else has stopped meanwhile: what is published now waits in the outbox.
        async with db["api"].transaction() as tx:
            event = JobScheduled(job_id=2, attempt=1, due_at=due_at, requirements=NEEDS)
            await messaging.publish(tx, [event])
        await relay.relay_outbox()
        await migrate(settings_of(room, database_url))
    while await relay.relay_outbox() is not None:
        pass

    async def both_fired() -> bool:
        async with db["scheduler"].connection() as conn:
            return len(await conn.fetch("SELECT FROM timers WHERE state = 'fired'")) == 2

    await until_it_holds(both_fired)
    assert (await service.look()).troubles == {}
    service.drain()
    await running
    for each in bus.values():
        await each.close()
    for opened in db.values():
        await opened.close()


async def test_a_worker_process_names_over_http_the_queue_that_its_events_need(
    room: Room, database_url: str, tmp_path: Path
) -> None:
    port = free_port()
    settings = {
        "DOCKER_JOB_DATABASE_URL": service_dsn(database_url, "scheduler", PASSWORDS["scheduler"]),
        "DOCKER_JOB_BUS_URL": room.of("scheduler"),
        "DOCKER_JOB_HEALTH_PORT": str(port),
        "DOCKER_JOB_READY_FILE": str(tmp_path / "ready"),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.scheduler", env=os.environ | settings
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:

            async def found() -> httpx.Response | None:
                with contextlib.suppress(httpx.TransportError):
                    return await http.get("/readyz")
                return None

            async def ready() -> bool:
                answer = await found()
                return answer is not None and answer.status_code == 200

            await until_it_holds(ready)
            assert (await http.get("/healthz")).json() == {"status": "alive"}
            await delete_queue(room.url, "launcher")
            answer = await http.get("/readyz")
            assert answer.status_code == 503
            assert answer.json()["missing"] == ["queue launcher"]
            assert "run the migration" in answer.json()["message"]
            await migrate(settings_of(room, database_url))
            assert await ready()
    finally:
        process.terminate()
        assert await process.wait() == 0
