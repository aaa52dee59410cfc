"""RabbitMQ's publisher: its frames, its returns, and a connection that dies meanwhile."""

import asyncio
import gc
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aio_pika
import pytest

from shared.bus.port import BusUnavailable, Message
from shared.bus.rabbitmq import RabbitMQBus, declare_topology
from tests.support.bus.bus_room import bound_names
from tests.support.servers.cut_wire import CutWire, cut_wire
from tests.support.servers.rabbitmq_kinds import RabbitServer
from tests.support.servers.rabbitmq_server import fresh_vhost

TOPOLOGY = {"reader": ("Told",)}


@pytest.fixture
def url(rabbitmq: RabbitServer) -> Iterator[str]:
    with fresh_vhost(rabbitmq) as vhost_url:
        asyncio.run(declare_topology(vhost_url, TOPOLOGY))
        yield vhost_url


@pytest.fixture
async def wire(url: str) -> AsyncIterator[CutWire]:
    async with cut_wire(url) as wire:
        yield wire


def message(name: str = "Told", body: bytes = b"[]") -> Message:
    return Message(name=name, id=str(uuid.uuid4()), body=body)


async def cut_when_asked(wire: CutWire) -> None:
    await wire.asked.wait()
    wire.cut()


async def test_the_properties_say_what_the_message_is(url: str) -> None:
    sent = message(body=b'[{"specversion": "1.0"}]')
    bus = RabbitMQBus(url, bound_names(TOPOLOGY))
    await bus.publish([sent])
    await bus.close()
    connection = await aio_pika.connect(url, timeout=10)
    async with connection, connection.channel() as channel:
        queue = await channel.get_queue("reader", ensure=False)
        got = await queue.get()
        assert got is not None
        assert (got.message_id, got.type, got.routing_key) == (sent.id, "Told", "Told")
        assert got.content_type == "application/cloudevents-batch+json"
        assert got.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
        assert got.body == sent.body
        assert not got.headers


async def test_each_of_two_unrouted_publishes_with_one_id_fails(url: str) -> None:
    bus = RabbitMQBus(url, {"Missing"})
    same = message("Missing")
    results = await asyncio.gather(
        *(bus.publish([same]) for _ in range(3)), bus.publish([same, same]), return_exceptions=True
    )
    assert [type(each) for each in results] == [BusUnavailable] * 4
    await bus.close()


async def test_one_that_comes_back_among_many_fails_them_all(url: str) -> None:
    bus = RabbitMQBus(url, {*bound_names(TOPOLOGY), "Missing"})
    many = [message() for _ in range(50)]
    with pytest.raises(BusUnavailable):
        await bus.publish([*many[:25], message("Missing"), *many[25:]])
    await bus.publish(many)
    await bus.close()


async def test_a_connection_that_dies_before_the_confirms_leaves_nothing_behind(
    wire: CutWire,
) -> None:
    unseen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
    bus = RabbitMQBus(wire.url, bound_names(TOPOLOGY))
    await bus.publish([message()])
    before = asyncio.all_tasks()
    wire.mute()
    with pytest.raises(BusUnavailable, match="publish 200 messages"):
        async with asyncio.timeout(30):
            await asyncio.gather(bus.publish([message() for _ in range(200)]), cut_when_asked(wire))
    await bus.publish([message()])  # over a connection of its own
    await bus.close()
    gc.collect()
    await asyncio.sleep(0)
    assert not unseen
    assert not [each for each in asyncio.all_tasks() - before if "aiormq" in repr(each)]


async def test_a_publish_that_is_cancelled_is_cancelled_and_the_next_is_confirmed(
    wire: CutWire,
) -> None:
    bus = RabbitMQBus(wire.url, bound_names(TOPOLOGY))
    await bus.publish([message()])
    wire.mute()
    async with asyncio.TaskGroup() as group:
        publishing = group.create_task(bus.publish([message() for _ in range(200)]))
        await wire.asked.wait()
        publishing.cancel()
    assert publishing.cancelled()
    wire.cut()
    await bus.publish([message()])
    await bus.close()
