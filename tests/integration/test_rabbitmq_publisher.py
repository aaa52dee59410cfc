"""RabbitMQ's publisher: its frames, its returns, and a connection that dies meanwhile."""

import asyncio
import gc
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aio_pika
import pytest

from operations import wiring
from shared.bus.port import BusUnavailable, Message
from shared.bus.rabbitmq import RabbitMQBus, declare_topology
from tests.support.bus.broker_room import migrated_room
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


async def queued(url: str, name: str = "reader") -> set[str]:
    """Take everything out of the queue; return the ids of its messages."""
    found = set()
    connection = await aio_pika.connect(url, timeout=10)
    async with connection, connection.channel() as channel:
        queue = await channel.get_queue(name, ensure=False)
        while (got := await queue.get(fail=False, no_ack=True)) is not None:
            found.add(str(got.message_id))
    return found


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
        *(bus.publish([same]) for _ in range(3)), bus.publish([same, same])
    )
    assert [list(each) for each in results] == [[same.id]] * 4
    await bus.close()


async def test_one_that_no_queue_takes_fails_alone_and_says_what_to_do(url: str) -> None:
    bus = RabbitMQBus(url, {*bound_names(TOPOLOGY), "Missing"})
    many, lost = [message() for _ in range(50)], message("Missing")
    unconfirmed = await bus.publish([*many[:25], lost, *many[25:]])
    assert list(unconfirmed) == [lost.id]
    assert unconfirmed[lost.id].startswith("no queue takes Missing: run the migration")
    assert await queued(url) == {each.id for each in many}
    await bus.close()


async def test_one_that_the_broker_refuses_fails_alone_though_its_channel_is_closed(
    rabbitmq: RabbitServer,
) -> None:
    async with migrated_room(rabbitmq) as room:
        bus = RabbitMQBus(room.of("scheduler"), bound_names(wiring.TOPOLOGY))
        many = [message("InstanceRequested") for _ in range(20)]
        refused = [message("JobFinished"), message("AttemptEnded")]  # the API's
        sent = [*many[:7], refused[0], *many[7:12], refused[1], *many[12:]]
        unconfirmed = await bus.publish(sent)
        assert set(unconfirmed) == {each.id for each in refused}
        assert all("ACCESS_REFUSED" in why for why in unconfirmed.values())
        assert await queued(room.url, "launcher") == {each.id for each in many}
        assert await bus.publish([message("InstanceRequested")]) == {}
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
