"""Publishing with aio-pika's own publisher: all of a call's confirms in flight together.

A publish costs one task, one write and one timer per message of up to 250 events.

A message that no queue takes is returned, and fails alone. One that the broker refuses (no
permission, too large) makes it close the channel, with all that is under way on it: these are
published again by halves, so that the refused message is found and fails alone too.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence

import aio_pika
from aio_pika.abc import AbstractChannel
from aiormq.exceptions import ChannelClosed, DeliveryError, PublishError
from msgspec import Struct

from shared.bus.port import REMEDY, BusUnavailable, Message
from shared.bus.rabbitmq.connection import Link, describe

CONFIRM_SECONDS = 15.0
"""Time limit for a confirm; then the outcome is unknown. Within the relay's own limit."""

DRAIN_SECONDS = 3.0
"""Time limit of `close` for confirms under way."""

CONTENT_TYPE = "application/cloudevents-batch+json"


class _Sent(Struct, frozen=True):
    """The outcome of messages that were sent over one channel.

    *trouble* is why some have no outcome; *refusal* is why the broker closed the channel.
    """

    confirmed: frozenset[str]
    unconfirmed: Mapping[str, str]
    trouble: str | None
    refusal: str | None


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

    async def publish(self, messages: Sequence[Message]) -> Mapping[str, str]:
        """Publish as in the port: return why, by the id of each message without a confirm.

        A message that reaches no queue is one of these only if our topology has a queue for it:
        JobStarted and JobFinished have only outside readers.
        """
        if await self._link.is_blocked():
            raise BusUnavailable("publish: the broker takes no messages now (memory or disk alarm)")
        channel = await self._open()
        sent = await self._send_all(channel, messages)
        if sent.refusal is None:
            return sent.unconfirmed
        left = [each for each in messages if each.id not in sent.confirmed]
        if len(left) == 1:
            return {left[0].id: sent.refusal}
        half = len(left) // 2
        return {**await self.publish(left[:half]), **await self.publish(left[half:])}

    async def _send_all(self, channel: AbstractChannel, messages: Sequence[Message]) -> "_Sent":
        """Send *messages* on *channel*. Raises `BusUnavailable` if none of them has an outcome."""
        tasks = [self._begin(channel, message) for message in messages]
        try:
            _, late = await asyncio.wait(tasks, timeout=self._confirm_seconds)
        except asyncio.CancelledError:
            self._abandon(channel)
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        sent = _sent(messages, tasks, late)
        if sent.trouble is not None or sent.refusal is not None:
            # A broker with an alarm reads on once it is cleared. Otherwise the state of this
            # connection and of its messages is unknown; and on a channel that the broker has closed
            # a message that is still sent ends the connection [tried].
            if not await self._link.is_blocked():
                self._abandon(channel)
            if sent.refusal is None and not sent.confirmed:
                raise BusUnavailable(f"publish {len(messages)} messages: {sent.trouble}")
        return sent

    async def trouble(self) -> str | None:
        """Return what keeps us from publishing now. Raises `BusUnavailable` if not connected."""
        await self._open()
        blocked = await self._link.is_blocked()
        return "it takes no messages now (memory or disk alarm)" if blocked else None

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


def _sent(
    messages: Sequence[Message],
    tasks: Sequence["asyncio.Task[None]"],
    late: Collection["asyncio.Task[None]"],
) -> _Sent:
    """Read the outcome of each of *messages* from its task; *late* ones had none in time."""
    confirmed: set[str] = set()
    unconfirmed: dict[str, str] = {}
    trouble = refusal = None
    for message, task in zip(messages, tasks, strict=True):
        error = _error_of(task, late=task in late)
        if error is None:
            confirmed.add(message.id)
            continue
        if isinstance(error, ChannelClosed):
            refusal = refusal or describe(error)
        elif not isinstance(error, DeliveryError):
            trouble = trouble or describe(error)
        unconfirmed[message.id] = _words(message, error)
    # Of two with one id both must be confirmed.
    return _Sent(frozenset(confirmed - unconfirmed.keys()), unconfirmed, trouble, refusal)


def _error_of(task: "asyncio.Task[None]", *, late: bool) -> BaseException | None:
    if late:
        return TimeoutError("no answer in time")
    if task.cancelled():  # by the library: see `unavailable`
        return ConnectionError("the connection died")
    return task.exception()


def _words(message: Message, error: BaseException) -> str:
    if isinstance(error, PublishError):
        return f"no queue takes {message.name}: {REMEDY}"
    return describe(error)
