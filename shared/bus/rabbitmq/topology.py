"""The topology on the broker: declared by the migrating user, before any service starts.

    docker-job (topic) ──JobScheduled──▶ scheduler
                                             └─after too many deliveries─▶ docker-job.dead (direct)
                                                                              └─▶ scheduler.dead
    scheduler.redrive (fanout) ─▶ scheduler       what an operator has put back, see `dead_queue`

With a queue that is missing its events are lost: they are published again, once it is declared.
The redrive exchange is declared after that, so that a migration that was killed in between does it
again.

A handler's failures are rows of its service, not redeliveries. Redeliveries come from readers that
crashed, and after `DELIVERY_LIMIT` of them the message goes to `<queue>.dead`, at least once, and
stays there. Works on RabbitMQ 3.10 and later.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import TypeVar

from aiormq.abc import AbstractChannel
from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
)
from pamqp.common import FieldTable

from shared.backoff import RECONNECT
from shared.bus.port import BusUnavailable, Topology
from shared.bus.rabbitmq import users
from shared.bus.rabbitmq.connection import Link, TopologyError, unavailable

EXCHANGE = "docker-job"
DEAD_EXCHANGE = "docker-job.dead"

DELIVERY_LIMIT = 100
"""Far above the redeliveries of restarts and dropped connections, and above the few crashes by
which a reader finds the message that causes them. Set explicitly: since 4.0 the default is 20.
"""

_NEVER = 2**31 - 1
DECLARE_SECONDS = 30.0
WAIT_SECONDS = 60.0

_QUORUM: FieldTable = {"x-queue-type": "quorum"}


def dead_queue(queue: str) -> str:
    """Return the name of the queue for what *queue* delivered too often."""
    return f"{queue}.dead"


def redrive_exchange(queue: str) -> str:
    """Return the exchange through which only the user of its readers puts back into *queue*."""
    return f"{queue}.redrive"


Result = TypeVar("Result")

Resend = Callable[[Sequence[str]], Awaitable[None]]
"""A function of the queues that were missing: it makes their events be published again."""


async def _nothing_to_resend(_queues: Sequence[str]) -> None:
    """Do nothing: for a broker whose publishers have no outbox yet."""


async def declare(
    admin_url: str,
    management_url: str | None,
    topology: Topology,
    publishes: Mapping[str, Sequence[str]],
    passwords: Mapping[str, str],
    resend: Resend = _nothing_to_resend,
) -> None:
    """Declare the topology and, through the management API, a user for each service.

    *publishes* and *passwords* are by service; the service reads the queue of its own name. Without
    *management_url* no permissions are changed. *resend* is called if queues were missing. Waits up
    to a minute for a broker that is starting. Raises `TopologyError`, `BusUnavailable`.
    """
    if management_url is None:
        await _patiently(lambda: declare_topology(admin_url, topology, resend))
        return
    vhost = users.vhost_of(admin_url)
    bound = await _patiently(lambda: users.bindings_of(management_url, vhost, EXCHANGE))
    unbound = [queue for queue, names in topology.items() if set(names) - bound.get(queue, set())]
    await _patiently(lambda: declare_topology(admin_url, topology, resend, unbound))
    wanted = [
        users.ServiceUser(
            name=name,
            password=passwords[name],
            queues=(name, dead_queue(name)),
            events=tuple(events),
            exchanges=(EXCHANGE, redrive_exchange(name)),
        )
        for name, events in publishes.items()
    ]
    await _patiently(lambda: users.declare_users(management_url, vhost, EXCHANGE, wanted))


async def _patiently(act: Callable[[], Awaitable[Result]]) -> Result:
    tries = 0
    deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
    while True:
        try:
            return await act()
        except BusUnavailable:
            if asyncio.get_running_loop().time() > deadline:
                raise
            tries += 1
            await asyncio.sleep(RECONNECT.delay(tries, random.random()))


async def declare_topology(
    admin_url: str,
    topology: Topology,
    resend: Resend = _nothing_to_resend,
    unbound: Collection[str] = (),
) -> None:
    """Declare exchanges, queues and bindings. Raises `TopologyError`, `BusUnavailable`.

    *unbound* are queues that lack a binding: they have missed events as if they had been missing.
    """
    link = Link(admin_url, "migration")
    try:
        async with _declaring():
            missing = [
                queue
                for queue in topology
                if queue in unbound or not await _is_complete(link, queue)
            ]
            channel = await link.channel()
            for queue in missing:
                await channel.exchange_delete(redrive_exchange(queue))
            await _declare(channel, topology)
        if missing:
            await resend(missing)
        async with _declaring():
            for queue in topology:
                redrive = redrive_exchange(queue)
                await channel.exchange_declare(redrive, exchange_type="fanout", durable=True)
                await channel.queue_bind(queue, redrive)
    finally:
        await link.close()


@contextlib.asynccontextmanager
async def _declaring() -> AsyncIterator[None]:
    """Turn the broker's refusals into `TopologyError`, and limit the time."""
    try:
        with unavailable("declare the topology"):
            async with asyncio.timeout(DECLARE_SECONDS):
                yield
    except BusUnavailable as error:
        if isinstance(error.__cause__, ChannelPreconditionFailed):
            raise TopologyError(
                f"the broker has one of our queues or exchanges, declared differently ({error}): "
                "drain it, delete it, then migrate again"
            ) from error
        if isinstance(error.__cause__, ChannelAccessRefused):
            raise TopologyError(
                f"the migrating user may not declare the topology: {error}"
            ) from error
        raise


async def _is_complete(link: Link, queue: str) -> bool:
    """Return whether the queue exists, and its lost events, if any, were made due again."""
    channel = await link.channel()
    try:
        await channel.queue_declare(queue, passive=True)
        await channel.exchange_declare(redrive_exchange(queue), passive=True)
    except ChannelNotFoundEntity:  # and the broker has closed the channel
        return False
    await channel.close()
    return True


async def _declare(channel: AbstractChannel, topology: Topology) -> None:
    await channel.exchange_declare(EXCHANGE, exchange_type="topic", durable=True)
    await channel.exchange_declare(DEAD_EXCHANGE, exchange_type="direct", durable=True)
    for queue, names in topology.items():
        await _declare_queue(channel, queue)
        for name in names:
            await channel.queue_bind(queue, EXCHANGE, name)
        # Bindings of other queues that this one no longer has: no error if it never had them.
        for name in {name for each in topology.values() for name in each} - set(names):
            await channel.queue_unbind(queue, EXCHANGE, name)


async def _declare_queue(channel: AbstractChannel, queue: str) -> None:
    dead = dead_queue(queue)
    # Operators read it and return its messages: that must not count towards a limit.
    unlimited: FieldTable = _QUORUM | {"x-delivery-limit": _NEVER}
    await channel.queue_declare(dead, durable=True, arguments=unlimited)
    await channel.queue_bind(dead, DEAD_EXCHANGE, queue)
    arguments: FieldTable = _QUORUM | {
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": DEAD_EXCHANGE,
        "x-dead-letter-routing-key": queue,
        # At least once needs reject-publish: the broker keeps a dead letter until its queue has it.
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    await channel.queue_declare(queue, durable=True, arguments=arguments)
