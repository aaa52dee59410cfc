"""Publishing in batches: one write for all of a batch, and all of its confirms in flight.

aio-pika's own `publish` makes a task, a timer and a write of each message: 130 µs of this process'
time on the machine of docs/performance.md, where a batch of our own frames takes 10 µs a message.
That leans on the bookkeeping of aiormq's channel (`delivery_tag`, `confirmations`), so aiormq is
pinned exactly and the contract suite runs over it.
"""

import asyncio
import itertools
import uuid
from collections.abc import Collection, Sequence
from typing import Any

from aiormq.abc import ChannelFrame
from aiormq.channel import Channel

from shared.bus.port import BusUnavailable, Message
from shared.bus.rabbitmq.connection import Link, unavailable
from shared.bus.rabbitmq.frames import content_frames, publish_frame

CONFIRM_SECONDS = 15.0
"""A batch that is not confirmed by then is not known; within the relay's own bound."""

DRAIN_SECONDS = 3.0
"""How long `close` waits for confirms under way."""

WRITE = 100
"""Messages in one write: heartbeats must get in between."""


class _Batch:
    """What the channel takes for the confirmation of each of its messages: confirmed when all are.

    One future for a batch, since one for each message would cost more than the message.
    """

    __slots__ = ("confirmed", "left")

    def __init__(self, confirmed: "asyncio.Future[None]", left: int) -> None:
        self.confirmed = confirmed
        self.left = left

    def done(self) -> bool:
        return self.confirmed.done()

    def cancelled(self) -> bool:
        """Whether a late word on one of its messages is nothing to be warned of."""
        return True

    def set_result(self, _frame: object) -> None:
        self.left -= 1
        if not self.left:
            self.confirmed.set_result(None)

    def set_exception(self, error: Exception) -> None:
        if not self.confirmed.done():
            self.confirmed.set_exception(error)


class Publisher:
    """The publishing side of one process; *bound* are the names that our queues are bound to."""

    def __init__(
        self, link: Link, exchange: str, bound: Collection[str], confirm_seconds: float
    ) -> None:
        self._link = link
        self._exchange = exchange
        self._bound = frozenset(bound)
        self._confirm_seconds = confirm_seconds
        self._channel: Channel | None = None
        self._opening = asyncio.Lock()
        self._unconfirmed: set[asyncio.Future[Any]] = set()
        self._nonce = uuid.uuid4().hex
        self._numbers = itertools.count()

    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish, and return when each is confirmed. Raises `BusUnavailable`.

        A message that no queue takes is an error only where our topology has a queue for it:
        JobStarted and JobFinished go to whoever cares.
        """
        channel = await self._open()
        if await self._link.is_blocked():
            raise BusUnavailable("publish: the broker takes no messages now (memory or disk alarm)")
        message_ids = [f"{self._nonce}-{next(self._numbers)}" for _ in messages]
        batch = _Batch(channel.create_future(), len(messages))
        self._unconfirmed.add(batch.confirmed)
        try:
            with unavailable(f"publish {len(messages)} messages"):
                async with asyncio.timeout(self._confirm_seconds):
                    await self._send(channel, messages, message_ids, batch)
                    await batch.confirmed
        except BaseException:
            # A broker with an alarm reads on when that is over. Otherwise nobody knows what this
            # connection still carries, or whether it lives.
            if not await self._link.is_blocked():
                self._abandon(channel)
            raise
        finally:
            self._unconfirmed.discard(batch.confirmed)
            for message_id in message_ids:
                channel.message_id_delivery_tag.pop(message_id, None)

    async def ready(self) -> bool:
        """Whether a publish would be taken now. Raises `BusUnavailable` without a connection."""
        await self._open()
        return not await self._link.is_blocked()

    async def close(self) -> None:
        """Let what is under way be confirmed, then close."""
        if self._unconfirmed:
            await asyncio.wait(self._unconfirmed, timeout=DRAIN_SECONDS)
        await self._link.close()

    async def _open(self) -> Channel:
        async with self._opening:
            if self._channel is None or self._channel.is_closed:
                self._channel = await self._link.channel(confirms=True)
            return self._channel

    def _abandon(self, channel: Channel) -> None:
        if self._channel is channel:
            self._channel = None
            self._link.drop()

    async def _send(
        self,
        channel: Channel,
        messages: Sequence[Message],
        message_ids: Sequence[str],
        batch: _Batch,
    ) -> None:
        """Write all of *messages*; what the broker will say of each goes to *batch*."""
        numbered = list(zip(messages, message_ids, strict=True))
        for start in range(0, len(messages), WRITE):
            frames: list[bytes] = []
            async with channel.lock:  # numbers are drawn and written in the same order
                for message, message_id in numbered[start : start + WRITE]:
                    channel.delivery_tag += 1
                    # A return names the message alone.
                    channel.message_id_delivery_tag[message_id] = channel.delivery_tag
                    channel.confirmations[channel.delivery_tag] = batch  # type: ignore[assignment]
                    frames += self._frames(channel, message, message_id)
                await channel.write_queue.put(
                    ChannelFrame(payload=b"".join(frames), should_close=False)
                )

    def _frames(self, channel: Channel, message: Message, message_id: str) -> list[bytes]:
        number, name = int(channel.number), message.name
        opening = publish_frame(number, self._exchange, name, mandatory=name in self._bound)
        size = int(channel.max_content_size)
        return [
            opening,
            *content_frames(number, message.body, message.event_id, message_id, size),
        ]
