"""The bus port on RabbitMQ: one connection that publishes, one that consumes.

Two, since a broker with an alarm stops reading from publishers, while acknowledgements must go on.
Connections are opened when needed. After `BusUnavailable` the caller tries again with a growing
delay (`shared.backoff.RECONNECT`): the relay's sweep and the consumer's loop do.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence

from aiormq.exceptions import ChannelNotFoundEntity

from shared.bus.port import BusState, BusUnavailable, DeadMessage, Message, QueueMissing
from shared.bus.rabbitmq.connection import Link, unavailable
from shared.bus.rabbitmq.dead_queue import open_dead_queue
from shared.bus.rabbitmq.publisher import CONFIRM_SECONDS, Publisher
from shared.bus.rabbitmq.subscription import QueueSubscription, open_subscription
from shared.bus.rabbitmq.topology import EXCHANGE, dead_queue

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
        self._url = url
        self._publisher = Publisher(Link(url, "publisher"), EXCHANGE, mandatory, confirm_seconds)
        self._consuming = Link(url, "consumer")
        self._prefetch = prefetch
        self._subscriptions: dict[str, list[QueueSubscription]] = {}
        self._closed = False

    async def publish(self, messages: Sequence[Message]) -> Mapping[str, str]:
        self._refuse_if_closed()
        return await self._publisher.publish(messages) if messages else {}

    async def subscribe(self, queue: str) -> QueueSubscription:
        """Consume from *queue*. Raises `QueueMissing`, `BusUnavailable`."""
        self._refuse_if_closed()
        consumed = self._subscriptions.setdefault(queue, [])
        channel = await self._consuming.channel()
        subscription = await open_subscription(channel, queue, self._prefetch)
        consumed[:] = [each for each in consumed if each.alive] + [subscription]
        return subscription

    async def state(self, queues: Collection[str] = ()) -> BusState:
        """Ask the broker, as in the port; it has two seconds to answer."""
        if self._closed:
            return BusState(trouble="it is closed")
        try:
            async with asyncio.timeout(READY_SECONDS):
                trouble = await self._publisher.trouble()
                readers = await self._count_readers({*queues, *self._subscriptions})
        except BusUnavailable as error:
            return BusState(trouble=f"it cannot be reached: {error}")
        except TimeoutError:
            return BusState(trouble=f"it does not answer within {READY_SECONDS:g} s")
        return BusState(trouble=trouble or self._unread(readers), readers=readers)

    async def ready(self) -> bool:
        """Return whether the broker takes our messages and lists our consumers on our queues."""
        return (await self.state()).trouble is None

    async def _count_readers(self, queues: Collection[str]) -> dict[str, int | None]:
        # A passive declaration needs no permission (https://www.rabbitmq.com/docs/access-control).
        readers: dict[str, int | None] = {}
        channel = None
        for queue in sorted(queues):
            channel = channel or await self._consuming.channel()
            with unavailable("ask for a queue"):
                try:
                    declared = await channel.queue_declare(queue, passive=True)
                    readers[queue] = declared.consumer_count
                except ChannelNotFoundEntity:  # and the broker has closed the channel
                    readers[queue], channel = None, None
        if channel is not None:
            with unavailable("ask for a queue"):
                await channel.close()
        return readers

    async def count_dead(self, queue: str) -> int:
        """Return the length of its dead queue. Raises `QueueMissing`, `BusUnavailable`."""
        self._refuse_if_closed()
        channel = await self._consuming.channel()
        dead = dead_queue(queue)
        with unavailable(f"ask for {dead}"):
            try:
                async with asyncio.timeout(READY_SECONDS):
                    declared = await channel.queue_declare(dead, passive=True)
            except ChannelNotFoundEntity:  # and the broker has closed the channel
                raise QueueMissing(dead) from None
            await channel.close()
        return declared.message_count or 0

    async def find_dead(self, queue: str, limit: int) -> Sequence[DeadMessage]:
        """Look into its dead queue, over a connection of its own. Raises `BusUnavailable`."""
        self._refuse_if_closed()
        async with open_dead_queue(self._url, queue, limit) as held:
            return held.messages

    def _unread(self, readers: Mapping[str, int | None]) -> str | None:
        """Return that one of the queues that this process reads has no consumer; None: all have."""
        for queue, subscriptions in self._subscriptions.items():
            if not readers[queue] or not any(each.alive for each in subscriptions):
                return f"our consumer is not on the queue {queue!r}"
        return None

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
