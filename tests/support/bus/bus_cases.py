"""The adapters under the bus contract, and the helpers of the suite.

To add an adapter, teach `opened` its name and put it into `ADAPTERS`.
"""

import contextlib
import random
import uuid
from collections.abc import AsyncIterator

from shared.bus.memory import MemoryBus
from shared.bus.port import Bus, Delivery, Message, Subscription, Topology
from tests.support.bus import bus_rabbitmq
from tests.support.bus.bus_room import BusRoom
from tests.support.servers.rabbitmq_server import Brokers

TOPOLOGY: Topology = {"fruit": ("Apple", "Pear"), "apples": ("Apple",)}
"""Apple has two queues, Pear one, and Plum none."""

ADAPTERS = ("memory", *bus_rabbitmq.ADAPTERS)

CHAOS_SEEDS = range(20)


@contextlib.asynccontextmanager
async def opened(adapter: str, brokers: Brokers) -> AsyncIterator[BusRoom]:
    """Make an empty bus with `TOPOLOGY`. Skips if the machine has no such broker."""
    if adapter == "memory":
        bus = MemoryBus(TOPOLOGY)

        @contextlib.asynccontextmanager
        async def mortal_reader(queue: str) -> AsyncIterator[Subscription]:
            subscription = await bus.subscribe(queue)
            yield subscription
            await subscription.close()  # in one process no reader dies alone

        yield BusRoom(bus, mortal_reader)
        await bus.close()
    else:
        async with bus_rabbitmq.rabbitmq_bus(adapter, brokers, TOPOLOGY) as rabbitmq:
            yield rabbitmq


def message(name: str, body: bytes = b"{}") -> Message:
    """Make a message with its own id."""
    return Message(name=name, id=str(uuid.uuid4()), body=body)


def messages(name: str, count: int) -> list[Message]:
    """Messages of their own ids, with different bodies."""
    return [message(name, str(number).encode()) for number in range(count)]


def by_id(found: list[Message]) -> list[Message]:
    """In one order, since a bus has none."""
    return sorted(found, key=lambda each: each.id)


async def take_all(subscription: Subscription, count: int) -> list[Delivery]:
    """Deliveries of *count* different events; those that came twice are among them twice."""
    taken: list[Delivery] = []
    while len({each.message.id for each in taken}) < count:
        taken += await subscription.take(100)
    return taken


async def take_singly(subscription: Subscription, count: int) -> list[Delivery]:
    """*count* deliveries, whatever each take brings."""
    taken: list[Delivery] = []
    while len(taken) < count:
        taken += await subscription.take(count - len(taken))
    return taken


async def ack_all(subscription: Subscription, count: int) -> list[Message]:
    """Take *count* different events and acknowledge them."""
    deliveries = await take_all(subscription, count)
    for delivery in deliveries:
        await delivery.ack()
    return by_id([each.message for each in deliveries])


async def crashing_reader(
    bus: Bus, queue: str, chaos: random.Random, seen: list[str], count: int
) -> None:
    """Read *queue* until *count* events are acknowledged, at times dying with a batch in hand."""
    acknowledged: set[str] = set()
    while len(acknowledged) < count:
        subscription = await bus.subscribe(queue)
        deliveries = await subscription.take(chaos.randint(1, 10))
        seen += [each.message.id for each in deliveries]
        for delivery in deliveries:
            if chaos.random() < 0.7:
                await delivery.ack()
                acknowledged.add(delivery.message.id)
        await subscription.close()
