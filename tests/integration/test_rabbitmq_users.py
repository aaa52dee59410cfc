"""One RabbitMQ user a service: the broker itself refuses access to other services' queues."""

import asyncio
import contextlib
import urllib.error
from collections.abc import AsyncIterator, Awaitable, Callable

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel
from aiormq.exceptions import ChannelAccessRefused, ProbableAuthenticationError

from operations.wiring import PUBLISHES, TOPOLOGY
from shared.bus.port import Message
from shared.bus.rabbitmq import RabbitMQBus
from shared.bus.rabbitmq.topology import DEAD_EXCHANGE, EXCHANGE, dead_queue, redrive_exchange
from shared.events.cloudevents import new_id
from shared.url import with_login
from tests.support.bus.broker_room import NAMES, PASSWORDS, Room, migrated_room
from tests.support.bus.bus_room import bound_names
from tests.support.servers.rabbitmq_kinds import RabbitServer
from tests.support.servers.rabbitmq_server import fresh_vhost, manage

Act = Callable[[AbstractChannel], Awaitable[object]]


@pytest.fixture
async def room(rabbitmq: RabbitServer) -> AsyncIterator[Room]:
    async with migrated_room(rabbitmq) as room:
        yield room


async def let_in(url: str, acts: dict[str, Act]) -> list[str]:
    """Return those of *acts* that the broker does not refuse; each has a channel of its own."""
    allowed = []
    connection = await aio_pika.connect(url, timeout=10)
    async with connection:
        for what, act in acts.items():
            channel = await connection.channel(on_return_raises=True)
            try:
                await act(channel)
            except ChannelAccessRefused:
                continue
            except aio_pika.exceptions.ChannelClosed as error:
                # A refusal may reach a waiter on the channel as its end.
                if "ACCESS_REFUSED" in str(error):
                    continue
                raise
            allowed.append(what)
            with contextlib.suppress(Exception):
                await channel.close()
    return allowed


def publish(exchange: str, key: str) -> Act:
    async def act(channel: AbstractChannel) -> object:
        target = (
            await channel.get_exchange(exchange, ensure=False)
            if exchange
            else channel.default_exchange
        )
        return await target.publish(aio_pika.Message(b"{}"), key, mandatory=False, timeout=10)

    return act


def read(queue: str) -> Act:
    async def act(channel: AbstractChannel) -> object:
        found = await channel.get_queue(queue, ensure=False)
        return await found.get(fail=False, timeout=10)

    return act


def bind(queue: str, key: str) -> Act:
    async def act(channel: AbstractChannel) -> object:
        found = await channel.get_queue(queue, ensure=False)
        return await found.bind(EXCHANGE, key, timeout=10)

    return act


@pytest.mark.parametrize("name", NAMES)
async def test_each_service_publishes_its_own_events_and_reads_its_own_queues(
    room: Room, name: str
) -> None:
    bus = RabbitMQBus(room.of(name), bound_names(TOPOLOGY))
    sent = [
        Message(name=event, id=new_id(), body=b"{}")
        for event in (*PUBLISHES[name], *PUBLISHES[name])
    ]
    await bus.publish(sent)
    subscription = await bus.subscribe(name)
    assert await bus.ready()
    await subscription.close()
    await (await bus.subscribe(dead_queue(name))).close()
    await bus.close()


@pytest.mark.parametrize("name", NAMES)
async def test_each_service_may_ask_whether_the_others_queues_exist_and_are_read(
    room: Room, name: str
) -> None:
    bus = RabbitMQBus(room.of(name), bound_names(TOPOLOGY))
    subscription = await bus.subscribe(name)
    found = await bus.state([*NAMES, "nowhere"])
    assert found.trouble is None
    assert found.readers == {**dict.fromkeys(NAMES, 0), name: 1, "nowhere": None}
    assert found.missing == ("nowhere",)
    await subscription.close()
    await bus.close()


@pytest.mark.parametrize("name", NAMES)
async def test_each_service_is_refused_the_others_queues_events_and_every_declaration(
    room: Room, name: str
) -> None:
    others = [each for each in NAMES if each != name]
    forbidden: dict[str, Act] = {}
    for other in others:
        forbidden |= {f"read {queue}": read(queue) for queue in (other, dead_queue(other))}
        theirs = set(PUBLISHES[other]) - set(PUBLISHES[name])
        forbidden |= {f"publish {event}": publish(EXCHANGE, event) for event in theirs}
        forbidden[f"put back to {other}"] = publish(redrive_exchange(other), "JobScheduled")
    forbidden |= {
        "publish an unknown event": publish(EXCHANGE, "JobEaten"),
        "a name that only begins like its own": publish(EXCHANGE, f"{PUBLISHES[name][0]}.more"),
        "the default exchange": publish("", others[0]),
        "the dead exchange": publish(DEAD_EXCHANGE, others[0]),
        "amq.topic": publish("amq.topic", "x"),
        "bind its own queue to more": bind(name, "JobFinished"),
        "declare a queue": lambda channel: channel.declare_queue("more", timeout=10),
        "declare a queue for itself": lambda channel: channel.declare_queue(
            exclusive=True, timeout=10
        ),
        "declare an exchange": lambda channel: channel.declare_exchange("more", timeout=10),
        "delete its own queue": lambda channel: channel.queue_delete(name, timeout=10),
        "delete the exchange": lambda channel: channel.exchange_delete(EXCHANGE, timeout=10),
    }
    assert await let_in(room.of(name), forbidden) == []
    own: dict[str, Act] = {
        "its own event": publish(EXCHANGE, PUBLISHES[name][0]),
        "its own queue": read(name),
        "back into its own queue": publish(redrive_exchange(name), "JobScheduled"),
    }
    assert await let_in(room.of(name), own) == list(own), "the test can see the difference"


@pytest.mark.parametrize("name", NAMES)
async def test_no_service_gets_into_another_virtual_host_or_with_anothers_password(
    room: Room, rabbitmq: RabbitServer, name: str
) -> None:
    other = next(each for each in NAMES if each != name)
    with fresh_vhost(rabbitmq) as elsewhere:
        url = with_login(elsewhere, name, PASSWORDS[name])
        with pytest.raises(aio_pika.exceptions.AMQPError):
            await aio_pika.connect(url)
    with pytest.raises(ProbableAuthenticationError):
        await aio_pika.connect(room.of(name).replace(PASSWORDS[name], PASSWORDS[other]))


@pytest.mark.parametrize("name", NAMES)
async def test_no_service_may_ask_the_management_api_anything(room: Room, name: str) -> None:
    url = with_login(room.management_url, name, PASSWORDS[name])
    with pytest.raises(urllib.error.HTTPError) as refused:
        await asyncio.to_thread(manage, url, "GET", "/api/queues")
    assert refused.value.code in (401, 403)
    refused.value.close()


async def test_a_publish_that_is_refused_is_not_confirmed_and_says_why(room: Room) -> None:
    bus = RabbitMQBus(room.of("reaper"), bound_names(TOPOLOGY))
    forged = Message(name="JobScheduled", id=new_id(), body=b"{}")
    assert "ACCESS_REFUSED" in (await bus.publish([forged]))[forged.id]
    await bus.close()
