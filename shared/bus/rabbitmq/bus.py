"""The bus port on RabbitMQ: one connection that publishes, one that consumes.

Two, since a broker with an alarm stops reading from publishers, while acknowledgements must go on.
Connections are opened when needed. After `BusUnavailable` the caller tries again with a growing
delay (`shared.backoff.RECONNECT`): the relay's sweep and the consumer's loop do.
"""

import asyncio
from collections.abc import Collection, Sequence

from shared.bus.port import BusUnavailable, Message
from shared.bus.rabbitmq.connection import Link, unavailable
from shared.bus.rabbitmq.publisher import CONFIRM_SECONDS, Publisher
from shared.bus.rabbitmq.subscription import QueueSubscription, open_subscription
from shared.bus.rabbitmq.topology import EXCHANGE

PREFETCH = 100
"""Unacknowledged messages per reader. Each holds up to 250 events, 1 MiB at most: this limits the
reader's memory, and how many messages are redelivered with one that crashes it.
"""

READY_SECONDS = 2.0


class RabbitMQBus:
    """The access of one process to the broker at *url*.

    A message with one of the *mandatory* names that reaches no queue is not confirmed.
    """

    def __init__(
        self,
        url: str,
        mandatory: Collection[str],
        *,
        prefetch: int = PREFETCH,
        confirm_seconds: float = CONFIRM_SECONDS,
    ) -> None:
        self._publisher = Publisher(Link(url, "publisher"), EXCHANGE, mandatory, confirm_seconds)
        self._consuming = Link(url, "consumer")
        self._prefetch = prefetch
        self._subscriptions: dict[str, list[QueueSubscription]] = {}
        self._closed = False

    async def publish(self, messages: Sequence[Message]) -> None:
        self._refuse_if_closed()
        if messages:
            await self._publisher.publish(messages)

    async def subscribe(self, queue: str) -> QueueSubscription:
        """Consume from *queue*. Raises `BusUnavailable`, also if the queue is missing."""
        self._refuse_if_closed()
        consumed = self._subscriptions.setdefault(queue, [])
        channel = await self._consuming.channel()
        subscription = await open_subscription(channel, queue, self._prefetch)
        consumed[:] = [each for each in consumed if each.alive] + [subscription]
        return subscription

    async def ready(self) -> bool:
        """Return whether the broker takes our messages and lists our consumers on our queues.

        It asks the broker; False after two seconds without an answer.
        """
        if self._closed:
            return False
        try:
            async with asyncio.timeout(READY_SECONDS):
                return await self._publisher.ready() and await self._consumers_listed()
        except (BusUnavailable, TimeoutError):
            return False

    async def _consumers_listed(self) -> bool:
        for subscriptions in self._subscriptions.values():
            if not any(each.alive for each in subscriptions):
                return False
        channel = await self._consuming.channel()
        with unavailable("ready"):
            try:
                for queue in self._subscriptions:
                    declared = await channel.queue_declare(queue, passive=True)
                    if not declared.consumer_count:
                        return False
            finally:
                await channel.close()
        return True

    async def close(self) -> None:
        """Refuse new publishes, wait for confirms under way, and send acknowledgements.

        Takes some seconds at most.
        """
        self._closed = True
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                await subscription.close()
        await asyncio.gather(self._publisher.close(), self._consuming.close())

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise BusUnavailable("the bus is closed")
