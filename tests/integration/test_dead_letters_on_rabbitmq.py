"""Two services, each as its own user of a real broker: dead letters from the one over the other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from operations.migrate import service_dsn
from services.api import service as api
from services.scheduler import service as scheduler
from services.scheduler.config import SchedulerConfig
from shared.bus.rabbitmq import RabbitMQBus
from shared.clock import RealClock
from shared.events.events import JobCancelled
from shared.events.readers import MANDATORY
from shared.postgres.pool import open_database
from shared.runtime.service import Ports, Service, ports_for
from tests.conftest import PASSWORDS
from tests.support.api.api_world import a_config
from tests.support.bus.broker_room import migrated_room
from tests.support.bus.dead_messages import kill_readers
from tests.support.rows.messages import as_message, wrapped
from tests.support.servers.rabbitmq_kinds import RabbitServer
from tests.support.waiting import until_it_holds

TOO_LARGE = 2**63  # for a bigint: the handler fails on it
AT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Pair:
    """The scheduler and the API's HTTP application; both run."""

    http: httpx.AsyncClient
    scheduler: Service

    async def letters(self) -> list[dict[str, Any]]:
        answer = await self.http.get("/deadletters")
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["letters"]
        return found


@pytest.fixture
async def pair(rabbitmq: RabbitServer, database_url: str) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        room = await stack.enter_async_context(migrated_room(rabbitmq))
        await kill_readers(room, as_message(wrapped(JobCancelled(job_id=7, attempt=1))))

        async def ports_of(name: str) -> Ports:
            dsn = service_dsn(database_url, name, PASSWORDS[name])
            db = await open_database(dsn, name, RealClock(), connections=3)
            stack.push_async_callback(db.close)
            bus = RabbitMQBus(room.of(name), MANDATORY)
            stack.push_async_callback(bus.close)
            return ports_for(db, bus, RealClock())

        whole = api.build(a_config(), await ports_of("api"))
        timers = scheduler.build(SchedulerConfig(), await ports_of("scheduler"))
        running = [asyncio.create_task(each.run()) for each in (whole.service, timers)]
        transport = httpx.ASGITransport(app=whole.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            yield Pair(http, timers)
        for each in (whole.service, timers):
            each.drain()
        await asyncio.gather(*running)


async def test_letters_are_seen_redriven_and_dropped_through_the_broker(pair: Pair) -> None:
    inbox = pair.scheduler.inbox
    poison = wrapped(JobCancelled(job_id=TOO_LARGE, attempt=1), at=AT)
    await inbox.settle([poison])

    async def both() -> bool:
        return {each["place"] for each in await pair.letters()} == {"parked", "broker"}

    await until_it_holds(both, seconds=30)
    found = {each["place"]: each for each in await pair.letters()}
    path = f"/deadletters/{poison.id}"
    assert found["parked"]["event_id"] == str(poison.id)
    assert (found["broker"]["service"], found["broker"]["job_id"]) == ("scheduler", 7)
    refused = await pair.http.delete(f"/deadletters/{found['broker']['event_id']}")
    assert refused.status_code == 409

    async with inbox.db.connection() as conn:  # its cause is remedied: it is about another job
        good = as_message(wrapped(JobCancelled(job_id=8, attempt=1)))
        await conn.execute("UPDATE parked SET body = $1, tries = 3", good.body)
    assert (await pair.http.post(f"{path}/redrive")).status_code == 202

    async def gone() -> bool:
        return [each["place"] for each in await pair.letters()] == ["broker"]

    await until_it_holds(gone, seconds=30)
    async with inbox.db.connection() as conn:
        jobs = await conn.fetch("SELECT job_id FROM timers")
    assert [row["job_id"] for row in jobs] == [8]


async def test_a_letter_is_dropped_through_the_broker(pair: Pair) -> None:
    inbox = pair.scheduler.inbox
    poison = wrapped(JobCancelled(job_id=TOO_LARGE, attempt=1), at=AT)
    await inbox.settle([poison])

    async def there() -> bool:
        return str(poison.id) in {each["event_id"] for each in await pair.letters()}

    async def gone() -> bool:
        return not await there()

    await until_it_holds(there, seconds=30)
    assert (await pair.http.delete(f"/deadletters/{poison.id}")).status_code == 202
    await until_it_holds(gone, seconds=30)
