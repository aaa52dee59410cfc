"""The RabbitMQ adapter for the bus contract suite: on each broker that the machine can have."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial

import aio_pika

from shared.bus.port import Delivery, Subscription, Topology
from shared.bus.rabbitmq import RabbitMQBus, declare_topology
from shared.bus.rabbitmq.topology import dead_queue
from tests.support.bus.bus_room import BusRoom, bound_names
from tests.support.servers.cut_wire import cut_wire
from tests.support.servers.rabbitmq_server import KINDS, Brokers, fresh_vhost

ADAPTERS = tuple(f"rabbitmq-{kind}" for kind in KINDS)
"""The suite's names for this adapter, one for each kind of broker."""


@contextlib.asynccontextmanager
async def rabbitmq_bus(
    adapter: str, brokers: Brokers, topology: Topology
) -> AsyncIterator[BusRoom]:
    """Make a bus with *topology* on the broker that *adapter* names, empty; skip without one."""
    server = brokers.get(adapter.removeprefix("rabbitmq-"))
    with fresh_vhost(server) as url:
        if server.management_url is None:
            await _clear(url, topology)
        await declare_topology(url, topology)
        bus = RabbitMQBus(url, bound_names(topology))
        try:
            yield BusRoom(bus, partial(mortal_reader, url))
        finally:
            await bus.close()


@contextlib.asynccontextmanager
async def mortal_reader(url: str, queue: str) -> AsyncIterator[Subscription]:
    """Open a reader whose connection ends with the block as when its process is killed."""
    async with cut_wire(url) as wire:
        bus = RabbitMQBus(wire.url, ())
        yield await bus.subscribe(queue)
        wire.cut()
        await bus.close()


async def _clear(url: str, topology: Topology) -> None:
    """Remove what an earlier test left on a broker that has one virtual host for all of them."""
    connection = await aio_pika.connect(url, timeout=10)
    async with connection, connection.channel() as channel:
        for queue in topology:
            await channel.queue_delete(queue)
            await channel.queue_delete(dead_queue(queue))


async def take(subscription: Subscription, count: int) -> list[Delivery]:
    """Take *count* deliveries: one call may return fewer, if not all are here yet."""
    taken: list[Delivery] = []
    async with asyncio.timeout(30):
        while len(taken) < count:
            taken += await subscription.take(count - len(taken))
    return taken
