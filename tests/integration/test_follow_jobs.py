"""What docs/events.md says to an outside reader, done word for word on a real RabbitMQ."""

import asyncio
import contextlib
import os
import re
import shlex
import sys
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import aio_pika
import pytest
from aiormq.exceptions import ChannelAccessRefused

from services.migrate import TOPOLOGY
from shared import wire
from shared.address import with_login
from shared.bus.port import Message, bound_names
from shared.bus.rabbitmq import RabbitMQBus
from shared.bus.rabbitmq.topology import EXCHANGE
from shared.events import JobFinished
from tests.broker_room import Room, migrated_room
from tests.rabbitmq_server import RabbitServer

ROOT = Path(__file__).resolve().parent.parent.parent
QUEUE = "follow-jobs"
AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def room(rabbitmq: RabbitServer) -> AsyncIterator[Room]:
    async with migrated_room(rabbitmq) as room:
        yield room


@pytest.fixture
async def reader(room: Room, rabbitmq: RabbitServer) -> AsyncIterator[str]:
    """The address of a user made by the commands of the page."""
    page = (ROOT / "docs" / "events.md").read_text()
    [permissions] = re.findall(r"rabbitmqctl set_permissions reader (.*)", page)
    name, vhost = f"reader-{uuid.uuid4().hex[:8]}", room.url.rpartition("/")[2]
    await asyncio.to_thread(rabbitmq.ctl, "add_user", name, "secret")
    grant = ("set_permissions", "-p", vhost, name, *shlex.split(permissions))
    await asyncio.to_thread(rabbitmq.ctl, *grant)
    yield with_login(room.url, name, "secret")
    await asyncio.to_thread(rabbitmq.ctl, "delete_user", name)


@contextlib.asynccontextmanager
async def example(url: str) -> AsyncIterator[asyncio.StreamReader]:
    """What the example prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "examples/follow_jobs.py",
        cwd=ROOT,
        env=os.environ | {"AMQP_URL": url},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.kill()
        await process.wait()
        await process.stdout.read()


async def until_it_reads(url: str) -> None:
    """Return once the broker lists a consumer on the example's queue."""
    connection = await aio_pika.connect(url, timeout=10)
    async with connection, asyncio.timeout(30):
        while True:
            channel = await connection.channel()
            with contextlib.suppress(aio_pika.exceptions.ChannelNotFoundEntity):
                queue = await channel.declare_queue(QUEUE, passive=True)
                if queue.declaration_result.consumer_count:
                    return


def finished(job_id: int) -> Message:
    event = JobFinished(job_id=job_id, status="DONE", finished_at=AT, attempt=1, exit_code=0)
    envelope = wire.wrap(event, at=AT, trace="t")
    return Message(name=envelope.name, event_id=envelope.id, body=wire.encode(envelope))


async def test_the_example_hears_of_each_jobs_end_once_and_goes_on_where_it_stopped(
    room: Room, reader: str
) -> None:
    bus = RabbitMQBus(room.of("api"), bound_names(TOPOLOGY))
    async with example(reader) as printed, asyncio.timeout(60):
        await until_it_reads(room.url)
        first = finished(7)
        await bus.publish([first, first, finished(8)])
        assert await printed.readline() == b"job 7 is DONE\n"
        assert await printed.readline() == b"job 8 is DONE\n"
    await bus.publish([finished(9)])  # nobody reads: the queue keeps it
    async with example(reader) as printed, asyncio.timeout(60):
        line = await printed.readline()
        if line == b"job 8 is DONE\n":  # it was killed before it acknowledged that one
            line = await printed.readline()
        assert line == b"job 9 is DONE\n"
    await bus.close()


async def test_the_reader_can_publish_nothing_and_read_no_services_queue(reader: str) -> None:
    connection = await aio_pika.connect(reader, timeout=10)
    async with connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(EXCHANGE, ensure=False)
        with pytest.raises(ChannelAccessRefused):
            await exchange.publish(aio_pika.Message(b"{}"), "JobFinished", timeout=10)
        channel = await connection.channel()
        queue = await channel.get_queue("scheduler", ensure=False)
        with pytest.raises(ChannelAccessRefused):
            await queue.get(timeout=10)


def test_the_example_is_about_twenty_lines() -> None:
    lines = (ROOT / "examples" / "follow_jobs.py").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) <= 25
