"""Publishing with aio-pika's own publisher: all of a call's confirms in flight together.

A publish costs one task, one write and one timer per message of up to 250 events.
"""

import asyncio
from collections.abc import Collection, Sequence

import aio_pika
from aio_pika.abc import AbstractChannel

from shared.bus.port import BusUnavailable, Message
from shared.bus.rabbitmq.connection import Link, unavailable

CONFIRM_SECONDS = 15.0
"""Time limit for a confirm; then the outcome is unknown. Within the relay's own limit."""

DRAIN_SECONDS = 3.0
"""Time limit of `close` for confirms under way."""

CONTENT_TYPE = "application/cloudevents-batch+json"


class Publisher:
    """The publishing side of one process; *bound* are the names that our queues are bound to."""

    def __init__(
        self, link: Link, exchange: str, bound: Collection[str], confirm_seconds: float
    ) -> None:
        self._link = link
        self._exchange = exchange
        self._bound = frozenset(bound)
        self._confirm_seconds = confirm_seconds
        self._channel: AbstractChannel | None = None
        self._opening = asyncio.Lock()
        self._under_way: dict[str, asyncio.Task[None]] = {}

    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish, and return when each is confirmed. Raises `BusUnavailable`.

        A message that reaches no queue is an error only if our topology has a queue for it:
        JobStarted and JobFinished have only outside readers.
        """
        channel = await self._open()
        if await self._link.is_blocked():
            raise BusUnavailable("publish: the broker takes no messages now (memory or disk alarm)")
        sending = [self._begin(channel, message) for message in messages]
        try:
            with unavailable(f"publish {len(messages)} messages"):
                async with asyncio.timeout(self._confirm_seconds):
                    # A task group would take the CancelledError of a dead connection for a task's
                    # own end, and an unconfirmed message for published.
                    await asyncio.gather(*sending)
        except BaseException:
            # A broker with an alarm reads on once it is cleared. Otherwise the state of this
            # connection and of its messages is unknown.
            if not await self._link.is_blocked():
                self._abandon(channel)
            raise
        finally:
            for task in sending:
                task.cancel()
            await asyncio.gather(*sending, return_exceptions=True)

    async def ready(self) -> bool:
        """Return whether a publish is possible now. Raises `BusUnavailable` if not connected."""
        await self._open()
        return not await self._link.is_blocked()

    async def close(self) -> None:
        """Wait for confirms under way, then close."""
        if self._under_way:
            await asyncio.wait(self._under_way.values(), timeout=DRAIN_SECONDS)
        await self._link.close()

    async def _open(self) -> AbstractChannel:
        async with self._opening:
            if self._channel is None or self._channel.is_closed:
                self._channel = await self._link.publishing_channel()
            return self._channel

    def _abandon(self, channel: AbstractChannel) -> None:
        if self._channel is channel:
            self._channel = None
            self._link.drop()

    def _begin(self, channel: AbstractChannel, message: Message) -> "asyncio.Task[None]":
        # A returned message is identified only by its `message_id`: of two with one id in flight
        # the library would report the first as confirmed.
        earlier = self._under_way.get(message.id)
        task = asyncio.create_task(self._send(channel, message, earlier))
        self._under_way[message.id] = task
        task.add_done_callback(lambda _: self._forget(message.id, task))
        return task

    def _forget(self, message_id: str, task: "asyncio.Task[None]") -> None:
        if self._under_way.get(message_id) is task:
            del self._under_way[message_id]

    async def _send(
        self, channel: AbstractChannel, message: Message, earlier: "asyncio.Task[None] | None"
    ) -> None:
        if earlier is not None:
            await asyncio.wait({earlier})
        exchange = await channel.get_exchange(self._exchange, ensure=False)
        await exchange.publish(
            aio_pika.Message(
                message.body,
                content_type=CONTENT_TYPE,
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                message_id=message.id,
                type=message.name,
            ),
            message.name,
            mandatory=message.name in self._bound,
        )
