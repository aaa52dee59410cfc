"""The instructions of docs/events.md to an outside reader, followed on a real RabbitMQ."""

import asyncio
import contextlib
import json
import os
import re
import shlex
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from aiormq.exceptions import ChannelAccessRefused
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.formats.json import JSONFormat

from operations.wiring import TOPOLOGY
from shared.bus.rabbitmq import RabbitMQBus
from shared.bus.rabbitmq.topology import EXCHANGE
from shared.events import cloudevents
from shared.events.cloudevents import Envelope
from shared.events.events import JobFinished, LaunchesReported
from shared.url import with_login
from tests.support.bus.broker_room import Room, migrated_room
from tests.support.bus.bus_room import bound_names
from tests.support.rows.messages import AT, SOURCE, TRACE, as_message, as_messages, wrapped
from tests.support.servers.rabbitmq_kinds import RabbitServer

ROOT = Path(__file__).resolve().parent.parent.parent
QUEUE = "follow-jobs"


@pytest.fixture
async def room(rabbitmq: RabbitServer) -> AsyncIterator[Room]:
    async with migrated_room(rabbitmq) as room:
        yield room


@pytest.fixture
async def reader(room: Room, rabbitmq: RabbitServer) -> AsyncIterator[str]:
    """Return the address of a user made by the commands of the page."""
    page = (ROOT / "docs" / "how-to" / "follow-events.md").read_text()
    [permissions] = re.findall(r"rabbitmqctl set_permissions reader (.*)", page)
    name, vhost = f"reader-{uuid.uuid4().hex[:8]}", room.url.rpartition("/")[2]
    await asyncio.to_thread(rabbitmq.ctl, "add_user", name, "secret")
    grant = ("set_permissions", "-p", vhost, name, *shlex.split(permissions))
    await asyncio.to_thread(rabbitmq.ctl, *grant)
    yield with_login(room.url, name, "secret")
    await asyncio.to_thread(rabbitmq.ctl, "delete_user", name)


@contextlib.asynccontextmanager
async def example(url: str) -> AsyncIterator[asyncio.StreamReader]:
    """Return the output of the example."""
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


def finished(job_id: int) -> Envelope[Any]:
    return wrapped(
        JobFinished(
            job_id=job_id,
            status="DONE",
            finished_at=AT,
            attempt=1,
            exit_code=0,
            name="nightly",
            labels={"team": "data"},
            cause="done",
        )
    )


async def test_the_example_receives_each_jobs_end_once_and_goes_on_where_it_stopped(
    room: Room, reader: str
) -> None:
    bus = RabbitMQBus(room.of("api"), bound_names(TOPOLOGY))
    async with example(reader) as printed, asyncio.timeout(60):
        await until_it_reads(room.url)
        first, second = finished(7), finished(8)
        [batch] = as_messages([first, second, first])
        await bus.publish([batch, batch, as_message(second), as_message(finished(9))])
        for job_id in (7, 8, 9):
            assert await printed.readline() == b"job %d (nightly) is DONE\n" % job_id
    await bus.publish([as_message(finished(10))])  # no consumer reads: the queue keeps it
    async with example(reader) as printed, asyncio.timeout(60):
        line = await printed.readline()
        while line != b"job 10 (nightly) is DONE\n":  # killed before it had acknowledged the others
            assert line in {b"job %d (nightly) is DONE\n" % job_id for job_id in (7, 8, 9)}
            line = await printed.readline()
    await bus.close()


async def test_the_public_cloudevents_library_reads_each_element_of_each_batch(
    room: Room, reader: str
) -> None:
    connection = await aio_pika.connect(reader, timeout=10)
    bus = RabbitMQBus(room.of("api"), bound_names(TOPOLOGY))
    async with connection, asyncio.timeout(30):
        channel = await connection.channel()
        queue = await channel.declare_queue("follow-all", auto_delete=True)
        await queue.bind(EXCHANGE, "#")
        events = [finished(job_id) for job_id in range(1, 301)]
        await bus.publish(as_messages(events))
        async with queue.iterator() as messages:  # one: it may have taken both at once
            batches = [await taken(messages) for _ in range(2)]
    await bus.close()
    assert sorted(len(batch) for batch in batches) == [50, 250]
    read = {str(each.get_id()): each for batch in batches for each in batch}
    for envelope in events:
        event = read[str(envelope.id)]
        assert (event.get_specversion(), event.get_source()) == ("1.0", SOURCE)
        assert (event.get_type(), event.get_time()) == ("JobFinished", AT)
        assert event.get_subject() == str(envelope.body.job_id)
        assert str(event.get_extension("traceparent")).split("-")[1] == TRACE
        assert event.get_data() == json.loads(cloudevents.encode([envelope]))[0]["data"]


async def taken(messages: aio_pika.abc.AbstractQueueIterator) -> list[BaseCloudEvent]:
    """Take the next message, as docs/events.md describes."""
    message = await anext(messages)
    await message.ack()
    assert message.content_type == cloudevents.CONTENT_TYPE
    return [JSONFormat().read(None, json.dumps(each)) for each in json.loads(message.body)]


def test_an_event_about_no_job_and_of_no_cause_is_a_cloudevent_too() -> None:
    [element] = json.loads(
        cloudevents.encode([wrapped(LaunchesReported(before=AT, launch_sequence=7))])
    )
    event = JSONFormat().read(None, json.dumps(element))
    assert (event.get_subject(), event.get_extension("causationid")) == (None, None)
    assert not {"subject", "causationid"} & set(event.get_attributes())


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
