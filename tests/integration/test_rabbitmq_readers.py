"""Readers of RabbitMQ that die and readers that close, and the queue's delivery count of either."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Iterator

import aio_pika
import pytest

from shared.bus.port import Message, Subscription
from shared.bus.rabbitmq import RabbitMQBus, declare_topology
from shared.bus.rabbitmq.bus import PREFETCH
from shared.bus.rabbitmq.connection import Link
from shared.bus.rabbitmq.subscription import open_subscription
from shared.bus.rabbitmq.topology import DELIVERY_LIMIT, EXCHANGE
from tests.support.bus.bus_rabbitmq import take
from tests.support.bus.bus_room import bound_names
from tests.support.servers.rabbitmq_kinds import RabbitServer
from tests.support.servers.rabbitmq_server import fresh_vhost, manage

TOPOLOGY = {"reader": ("Told",)}
NACKS_ARE_NO_DEATHS = (4, 3)
"""Since this version of RabbitMQ."""


@pytest.fixture
def url(rabbitmq: RabbitServer) -> Iterator[str]:
    with fresh_vhost(rabbitmq) as vhost_url:
        asyncio.run(declare_topology(vhost_url, TOPOLOGY))
        yield vhost_url


@pytest.fixture
async def rabbit(url: str) -> AsyncIterator[RabbitMQBus]:
    bus = RabbitMQBus(url, bound_names(TOPOLOGY))
    yield bus
    await bus.close()


def message(body: bytes = b"[]") -> Message:
    return Message(name="Told", id=str(uuid.uuid4()), body=body)


def version(server: RabbitServer) -> tuple[int, int]:
    assert server.management_url is not None
    overview = manage(server.management_url, "GET", "/api/overview")
    assert isinstance(overview, dict)
    major, minor, *_ = str(overview["rabbitmq_version"]).split(".")
    return int(major), int(minor)


async def test_a_message_that_kills_its_reader_ends_alone_among_the_dead_letters(
    rabbitmq: RabbitServer, url: str, rabbit: RabbitMQBus
) -> None:
    if rabbitmq.management_url is None:
        pytest.skip("the broker that is given shows no queue lengths")
    poison = message(body=b"poison")
    innocent = [message() for _ in range(30)]
    await rabbit.publish([*innocent[:15], poison, *innocent[15:]])
    handled: set[str] = set()
    for _ in range(DELIVERY_LIMIT + 1):
        # Ended without the queue's being handed anything back: what a crash of the process comes
        # to, once what it had acknowledged is on its way.
        link = Link(url, "a reader that dies")
        subscription = await open_subscription(await link.channel(), "reader", PREFETCH)
        handled |= await _handle_until_poison(subscription)
        await link.close()
    assert handled == {each.id for each in innocent}
    [dead] = await take(await rabbit.subscribe("reader.dead"), 1)
    assert dead.message.id == poison.id


async def _handle_until_poison(subscription: Subscription) -> set[str]:
    """Handle batch by batch as a consumer would, and die at the poison, with its whole batch."""
    handled: set[str] = set()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(2):
            while True:
                batch = await subscription.take(100)
                if any(each.message.body == b"poison" for each in batch):
                    return handled
                for delivery in batch:
                    await delivery.ack()
                    handled.add(delivery.message.id)
    return handled


async def test_what_a_reader_hands_back_counts_as_its_death_only_with_older_brokers(
    rabbitmq: RabbitServer, rabbit: RabbitMQBus
) -> None:
    if rabbitmq.management_url is None:
        pytest.skip("the broker that is given does not say which it is")
    counted = version(rabbitmq) < NACKS_ARE_NO_DEATHS
    await rabbit.publish([message() for _ in range(5)])
    for closes in range(3):
        reader = await rabbit.subscribe("reader")
        returned = {each.returned for each in await take(reader, 5)}
        assert returned == {closes if counted else 0}
        await reader.close()


async def test_a_reader_that_closes_hands_back_what_it_never_took(rabbit: RabbitMQBus) -> None:
    sent = [message() for _ in range(PREFETCH // 2)]
    await rabbit.publish(sent)
    first = await rabbit.subscribe("reader")
    [taken] = await first.take(1)
    await taken.ack()
    await first.close()
    rest = await take(await rabbit.subscribe("reader"), len(sent) - 1)
    assert {each.message.id for each in rest} == {each.id for each in sent} - {taken.message.id}


async def test_no_more_messages_are_under_way_to_a_reader_than_it_may_hold(
    rabbit: RabbitMQBus,
) -> None:
    first = await rabbit.subscribe("reader")
    await rabbit.publish([message() for _ in range(PREFETCH + 50)])
    held = await take(first, PREFETCH)
    second = await rabbit.subscribe("reader")
    rest = await take(second, 50)
    assert not {each.message.id for each in held} & {each.message.id for each in rest}


async def test_a_message_from_before_the_batches_keeps_its_id(
    url: str, rabbit: RabbitMQBus
) -> None:
    event_id = str(uuid.uuid4())
    connection = await aio_pika.connect(url, timeout=10)
    async with connection, connection.channel() as channel:
        exchange = await channel.get_exchange(EXCHANGE, ensure=False)
        old = aio_pika.Message(b"{}", headers={"event_id": event_id}, message_id="nonce-7")
        await exchange.publish(old, "Told")
    [delivery] = await take(await rabbit.subscribe("reader"), 1)
    assert delivery.message.id == event_id
