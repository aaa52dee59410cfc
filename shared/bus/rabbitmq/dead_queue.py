"""One `<service>.dead` queue, for operators: its messages are read, put back or dropped.

    <queue>.dead ──look──▶ held here, unacknowledged ──close──▶ back in <queue>.dead
                                │ put_back: published to <queue>.redrive, confirmed, acknowledged
                                └ drop: acknowledged

Killed between confirm and acknowledgement, the dead copy stays beside the new one; if that is put
back too, the reader's inbox drops the repeat.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

from aiormq.abc import AbstractChannel, DeliveredMessage

from shared.bus.port import DeadMessage, Message
from shared.bus.rabbitmq.connection import Link, unavailable
from shared.bus.rabbitmq.publisher import CONFIRM_SECONDS, Publisher
from shared.bus.rabbitmq.subscription import id_of
from shared.bus.rabbitmq.topology import DELIVERY_LIMIT, dead_queue, redrive_exchange
from shared.crash_points import Points

LOOK_SECONDS = 60.0
BATCH = 100
"""Messages put back with their confirms in flight together."""


class HeldMessage(DeadMessage, frozen=True, kw_only=True):
    """A message of the queue that is held here; *tag* is its number on the channel."""

    tag: int


class DeadQueue:
    """The messages held of one dead queue. Made by `open_dead_queue`."""

    def __init__(
        self,
        channel: AbstractChannel,
        publisher: Publisher,
        messages: Sequence[HeldMessage],
        left: int,
    ) -> None:
        self.messages = tuple(messages)
        self.left = left
        """The number of messages in the queue beyond the limit."""
        self._channel = channel
        self._publisher = publisher

    async def put_back(self, messages: Sequence[HeldMessage], points: Points) -> None:
        """Publish *messages* to the queue's readers again. Raises `BusUnavailable`: some may be."""
        for start in range(0, len(messages), BATCH):
            batch = messages[start : start + BATCH]
            await self._publisher.publish([each.message for each in batch])
            points.reached("deadletters.put_back")
            await self.drop(batch)

    async def drop(self, messages: Sequence[HeldMessage]) -> None:
        """Remove *messages* from the queue. Raises `BusUnavailable`."""
        with unavailable("acknowledge"):
            for each in messages:
                await self._channel.basic_ack(each.tag, wait=False)


@contextlib.asynccontextmanager
async def open_dead_queue(url: str, queue: str, limit: int) -> AsyncIterator[DeadQueue]:
    """Hold up to *limit* dead letters of *queue* for the block.

    *url* is the login of the service that reads *queue*. Raises `BusUnavailable`.
    """
    link = Link(url, "dead letters")
    try:
        channel = await link.channel()
        messages, left = await _look(channel, dead_queue(queue), limit)
        names = {each.message.name for each in messages}
        publisher = Publisher(link, redrive_exchange(queue), names, CONFIRM_SECONDS)
        yield DeadQueue(channel, publisher, messages, left)
        # In order, so that the broker has received each acknowledgement before this returns.
        with unavailable("close"):
            await channel.close()
    finally:
        await link.close()


async def _look(channel: AbstractChannel, queue: str, limit: int) -> tuple[list[HeldMessage], int]:
    found: list[HeldMessage] = []
    with unavailable(f"look into {queue}"):
        async with asyncio.timeout(LOOK_SECONDS):
            while True:
                delivered = await channel.basic_get(queue)
                if delivered.delivery_tag is None:
                    return found, 0
                found.append(_dead_message(delivered))
                if len(found) == limit:
                    return found, int(getattr(delivered.delivery, "message_count", 0) or 0)


_WHY = {"delivery_limit": f"its readers ended {DELIVERY_LIMIT} times without acknowledging it"}


def _dead_message(delivered: DeliveredMessage) -> HeldMessage:
    headers: dict[str, Any] = delivered.header.properties.headers or {}
    death = _last_death(headers)
    since, reason = death.get("time"), str(death.get("reason", "unknown"))
    return HeldMessage(
        message=Message(
            name=_name(delivered, death),
            id=id_of(delivered),
            body=delivered.body,
        ),
        why=_WHY.get(reason, f"dead-lettered by the broker: {reason}"),
        dead_since=since if isinstance(since, datetime) else None,
        tag=int(delivered.delivery_tag or 0),
    )


def _last_death(headers: dict[str, Any]) -> dict[str, Any]:
    """Return the broker's record of its last death (https://www.rabbitmq.com/docs/dlx)."""
    deaths = headers.get("x-death")
    first = deaths[0] if isinstance(deaths, list) and deaths else {}
    return first if isinstance(first, dict) else {}


def _name(delivered: DeliveredMessage, death: dict[str, Any]) -> str:
    """Return its original routing key: as a dead letter it has its queue's name."""
    keys = death.get("routing-keys")
    if isinstance(keys, list) and keys:
        return str(keys[0])
    return delivered.header.properties.message_type or delivered.routing_key or ""
