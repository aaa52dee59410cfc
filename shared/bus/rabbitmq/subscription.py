"""One queue's deliveries on a channel of their own.

The library's callback only enqueues: a handler in it would be cancelled when the connection drops.
Acknowledgements are gathered and sent as one frame (`multiple`) for all deliveries in order.
"""

import asyncio
import contextlib
import random
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from aiormq.abc import AbstractChannel, DeliveredMessage
from aiormq.exceptions import ChannelNotFoundEntity

from shared.bus.port import SUSPECT, BusUnavailable, Message, QueueMissing
from shared.bus.rabbitmq.connection import unavailable

CLOSE_SECONDS = 3.0
CONSUME_SECONDS = 10.0

_ALL = 0
"""As a delivery tag: all unsettled deliveries of this channel."""

_NO_ID = uuid.NAMESPACE_OID
_OLD_ID = "event_id"
"""The header with the id before messages were batches; a queue may still hold such messages."""


class _Delivery:
    """One message of one subscription."""

    __slots__ = ("_settle", "message", "returned", "tag")

    def __init__(self, delivered: DeliveredMessage, settle: "Callable[[int], None]") -> None:
        self.message = Message(
            # Both go into text columns of Postgres, so foreign bytes are replaced.
            name=(delivered.routing_key or "").replace("\0", "\N{REPLACEMENT CHARACTER}"),
            id=id_of(delivered),
            body=delivered.body,
        )
        self.returned = _returned(delivered)
        self.tag = int(delivered.delivery_tag or 0)
        self._settle = settle

    async def ack(self) -> None:
        """Acknowledge. Raises `BusUnavailable` if its channel is closed: it is redelivered."""
        self._settle(self.tag)


def id_of(delivered: DeliveredMessage) -> str:
    """Return the id that its publisher gave it, or one derived from its bytes."""
    given = _headers(delivered).get(_OLD_ID) or delivered.header.properties.message_id
    try:
        return str(uuid.UUID(str(given)))
    except ValueError:
        return str(uuid.uuid5(_NO_ID, delivered.body.hex()))


def _returned(delivered: DeliveredMessage) -> int:
    """Return the delivery count of a quorum queue (https://www.rabbitmq.com/docs/quorum-queues).

    It counts each channel or connection that ended before an acknowledgement. Before RabbitMQ 4.3
    a `basic.nack` counts as well (tried on 4.0), so that a regular close looks like a crash; since
    4.3 it does not.
    """
    count = _headers(delivered).get("x-delivery-count")
    return count if isinstance(count, int) else 0


def _headers(delivered: DeliveredMessage) -> dict[str, Any]:
    return delivered.header.properties.headers or {}


class QueueSubscription:
    """Deliveries from one queue. Made by `open_subscription`."""

    def __init__(self, channel: AbstractChannel, queue: str) -> None:
        self._channel = channel
        self._queue = queue
        self._ready: deque[_Delivery] = deque()
        self._changed = asyncio.Event()
        self._unsettled: deque[int] = deque()  # in the order of delivery, so of the tags
        self._settled: set[int] = set()
        self._flushing: asyncio.Task[None] | None = None
        self._consumer: str | None = None
        self._over: str | None = None

    async def start(self, prefetch: int) -> None:
        """Start deliveries, at most *prefetch* of them unacknowledged."""
        channel = self._channel
        channel.closing.add_done_callback(lambda _: self._end("the channel was closed"))
        channel.on_consumer_cancel_callbacks.add(
            lambda _: self._end("the broker cancelled the consumer")
        )
        with unavailable(f"consume from {self._queue}"):
            async with asyncio.timeout(CONSUME_SECONDS):
                await channel.basic_qos(prefetch_count=prefetch)
                try:
                    consuming = await channel.basic_consume(self._queue, self._on_message)
                except ChannelNotFoundEntity:
                    raise QueueMissing(self._queue) from None
                self._consumer = consuming.consumer_tag

    @property
    def alive(self) -> bool:
        """Return whether deliveries may still come."""
        return self._over is None

    async def take(self, limit: int) -> Sequence[_Delivery]:
        """Take deliveries, as in the port. Raises `BusUnavailable` when no more will come."""
        while self._over is None and not self._ready:
            self._changed.clear()
            await self._changed.wait()
        if self._over is not None:
            raise BusUnavailable(f"{self._queue}: {self._over}")
        return self._suspect() or [
            self._ready.popleft() for _ in range(min(limit, len(self._ready)))
        ]

    def _suspect(self) -> list[_Delivery]:
        """Return one delivery at random of those that were redelivered too often, alone.

        A message that crashes its reader causes the redelivery of all that was delivered with it,
        and at the broker's limit all of it would be dead letters. Delivered singly and in random
        order, each of the others is soon acknowledged before the cause comes up.
        """
        suspects = [each for each in self._ready if each.returned >= SUSPECT]
        if not suspects:
            return []
        chosen = random.choice(suspects)
        self._ready.remove(chosen)
        return [chosen]

    async def close(self) -> None:
        """Close, as in the port; never raises. The broker redelivers unacknowledged messages."""
        over, self._over = self._over, self._over or "closed"
        self._changed.set()
        if over is not None:
            return
        with contextlib.suppress(BusUnavailable), unavailable("close"):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._flush()
                await self._give_back()
                await self._channel.close()

    async def _give_back(self) -> None:
        """Return the unacknowledged messages explicitly: see `_returned`."""
        if self._consumer is None:
            return
        await self._channel.basic_cancel(self._consumer)  # or it would come straight back
        await self._channel.basic_nack(_ALL, multiple=True, requeue=True, wait=False)

    async def _on_message(self, delivered: DeliveredMessage) -> None:
        delivery = _Delivery(delivered, self._settle)
        self._unsettled.append(delivery.tag)
        self._ready.append(delivery)
        self._changed.set()

    def _end(self, why: str) -> None:
        self._over = self._over or why
        self._changed.set()

    def _settle(self, tag: int) -> None:
        if self._over is not None:
            raise BusUnavailable(f"acknowledge to {self._queue}: {self._over}")
        self._settled.add(tag)
        if self._flushing is None:
            # It starts when this task next waits, so that a loop of acknowledgements becomes one
            # frame.
            self._flushing = asyncio.ensure_future(self._flush_all())

    async def _flush_all(self) -> None:
        try:
            with unavailable("acknowledge"):
                await self._flush()
        except BusUnavailable as error:
            self._end(str(error))
        finally:
            self._flushing = None

    async def _flush(self) -> None:
        """Acknowledge what is settled: up to the first gap in one frame, the rest singly."""
        while self._settled:
            # Before any await: `close` flushes too, perhaps while this is under way.
            upto, singly = self._take_settled()
            if upto:
                await self._channel.basic_ack(upto, multiple=True, wait=False)
            for tag in singly:
                await self._channel.basic_ack(tag, wait=False)

    def _take_settled(self) -> tuple[int, list[int]]:
        upto = 0
        while self._unsettled and self._unsettled[0] in self._settled:
            upto = self._unsettled.popleft()
            self._settled.discard(upto)
        singly = sorted(self._settled)
        self._settled.clear()
        for tag in singly:
            self._unsettled.remove(tag)
        return upto, singly


async def open_subscription(
    channel: AbstractChannel, queue: str, prefetch: int
) -> QueueSubscription:
    """Consume from *queue*. Raises `QueueMissing`, and `BusUnavailable`, also if it is denied."""
    subscription = QueueSubscription(channel, queue)
    try:
        await subscription.start(prefetch)
    except BaseException:
        await subscription.close()
        raise
    return subscription
