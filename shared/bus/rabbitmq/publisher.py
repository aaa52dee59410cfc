"""Publishing in batches: one write for all of a batch, and all of its confirms in flight.

aio-pika's own `publish` makes a task, a timer and a write of each message: 130 µs of this process'
time on the machine of docs/performance.md. Here the frames of a batch are marshalled into one write
on aiormq's channel, as its `basic_publish` would make them one by one: 50 µs. That leans on the
channel's bookkeeping (`delivery_tag`, `confirmations`), so aiormq is pinned exactly and the
contract suite runs over it.
"""

import asyncio
import itertools
import uuid
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from aiormq import spec
from aiormq.abc import ChannelFrame
from aiormq.channel import Channel
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from shared.bus.port import BusUnavailable, Message
from shared.bus.rabbitmq.connection import Link, unavailable

CONFIRM_SECONDS = 15.0
"""A batch that is not confirmed by then is not known; within the relay's own bound."""

DRAIN_SECONDS = 3.0
"""How long `close` waits for confirms under way."""

WRITE = 100
"""Messages in one write: heartbeats must get in between."""

MESSAGE_ID = "batch_id"
"""The header with the event's id. The property `message_id` is fresh for each publish: two in
flight with the same one would lose a return.
"""

_PERSISTENT = 2
_CONTENT_TYPE = "application/json"


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
        confirmations: list[asyncio.Future[Any]] = []
        try:
            with unavailable(f"publish {len(messages)} messages"):
                async with asyncio.timeout(self._confirm_seconds):
                    await self._send(channel, messages, confirmations)
                    await _confirmed(confirmations)
        except BaseException:
            # A broker with an alarm reads on when that is over. Otherwise nobody knows what this
            # connection still carries, or whether it lives.
            if not await self._link.is_blocked():
                self._abandon(channel)
            raise
        finally:
            self._unconfirmed.difference_update(confirmations)

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
        confirmations: "list[asyncio.Future[Any]]",
    ) -> None:
        """Write all of *messages*; what the broker will say of each goes to *confirmations*."""
        for start in range(0, len(messages), WRITE):
            frames: list[Any] = []
            async with channel.lock:  # numbers are drawn and written in the same order
                for message in messages[start : start + WRITE]:
                    message_id = f"{self._nonce}-{next(self._numbers)}"
                    confirmation = _expect(channel, message_id)
                    confirmations.append(confirmation)
                    self._unconfirmed.add(confirmation)
                    frames += self._frames(channel, message, message_id)
                await channel.write_queue.put(
                    ChannelFrame.marshall(channel_number=channel.number, frames=frames)
                )

    def _frames(self, channel: Channel, message: Message, message_id: str) -> Iterator[Any]:
        yield spec.Basic.Publish(
            exchange=self._exchange,
            routing_key=message.name,
            mandatory=message.name in self._bound,
        )
        properties = spec.Basic.Properties(
            content_type=_CONTENT_TYPE,
            delivery_mode=_PERSISTENT,
            headers={MESSAGE_ID: message.id},
            message_id=message_id,
        )
        yield ContentHeader(properties=properties, body_size=len(message.body))
        size = channel.max_content_size
        for start in range(0, len(message.body), size):
            yield ContentBody(message.body[start : start + size])


def _expect(channel: Channel, message_id: str) -> "asyncio.Future[Any]":
    """The channel's next number, and what will be said of it; a return names the message only."""
    channel.delivery_tag += 1
    confirmation = channel.create_future()
    channel.confirmations[channel.delivery_tag] = confirmation
    known = channel.message_id_delivery_tag
    known[message_id] = channel.delivery_tag
    confirmation.add_done_callback(lambda _: known.pop(message_id, None))
    return confirmation


async def _confirmed(confirmations: "Collection[asyncio.Future[Any]]") -> None:
    """Return when each is confirmed; raise what was said of the first that is not."""
    if not confirmations:
        return
    done, _ = await asyncio.wait(confirmations, return_when=asyncio.FIRST_EXCEPTION)
    for confirmation in done:
        confirmation.result()
