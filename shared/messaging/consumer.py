"""The consumer of one service's queue: from `take` to `ack`.

Messages are batches, so one `take` returns many events; they are settled in transactions of about
`EVENTS` and acknowledged afterwards. A message that was redelivered `SUSPECT` times without an
outcome may have crashed its readers: it is settled alone, and after one more redelivery its events
are parked one by one, untried. Only an unavailable database blocks the queue: deliveries wait
unacknowledged, and none comes back.
"""

import asyncio
import contextlib
import random
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.backoff import RECONNECT
from shared.bus.port import SUSPECT, Bus, BusUnavailable, Delivery
from shared.events import cloudevents
from shared.events.cloudevents import Envelope, EventBatch, Undecodable, Unreadable
from shared.log import get_logger
from shared.messaging.inbox import Inbox
from shared.postgres.errors import is_transient

MESSAGES = 100
"""Messages taken at once, at most."""

EVENTS = 1000
"""About as many events take effect in one transaction."""

GATHER_SECONDS = 0.05
"""The minimum time between the starts of two batches, unless the first was full: a single event is
handled at once, and a stream of events shares statements and commits.
"""


HOLD_SECONDS = 20 * 60.0
"""How long deliveries are held for a database that is away; then they go back to the queue.

RabbitMQ closes a channel whose deliveries are unacknowledged for 30 minutes, again and again, and
before 4.3 counts each time as a crash of their reader.
"""


@dataclass
class _Group:
    """Deliveries whose events are settled together."""

    deliveries: list[Delivery] = field(default_factory=list)
    envelopes: list[Envelope[Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Consumer:
    """The queue of one service."""

    inbox: Inbox
    bus: Bus

    async def run(self, draining: asyncio.Event) -> None:
        """Take and handle until *draining* is set, then finish what was taken."""
        tries = 0
        progress = asyncio.Event()
        while not draining.is_set():
            try:
                await self._consume(draining, progress)
            except BusUnavailable as error:
                tries = 1 if progress.is_set() else tries + 1
                progress.clear()
                self._log.warning("events wait in their queue", error=str(error))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(RECONNECT.delay(tries, random.random())):
                        await draining.wait()

    async def _consume(self, draining: asyncio.Event, progress: asyncio.Event) -> None:
        if (trouble := await self.inbox.db.trouble()) is not None:
            raise BusUnavailable(f"nothing is taken while the database {trouble}")
        subscription = await self.bus.subscribe(self.inbox.service)
        stop = asyncio.ensure_future(draining.wait())
        seconds = asyncio.get_running_loop().time
        take: asyncio.Future[Sequence[Delivery]] | None = None
        try:
            while not draining.is_set():
                take = asyncio.ensure_future(subscription.take(MESSAGES))
                await asyncio.wait({take, stop}, return_when=asyncio.FIRST_COMPLETED)
                if not take.done():
                    return
                begun = seconds()
                events = await self._handle(take.result())
                progress.set()
                if events < EVENTS and len(take.result()) < MESSAGES:
                    await asyncio.wait({stop}, timeout=max(0.0, begun + GATHER_SECONDS - seconds()))
        finally:
            stop.cancel()
            if take is not None:
                take.cancel()  # however this ends: a late delivery would not be handled
            await subscription.close()

    async def _handle(self, deliveries: Sequence[Delivery]) -> int:
        """Settle and acknowledge *deliveries*; return how many events they held."""
        count = 0
        group = _Group()
        suspects: list[tuple[Delivery, EventBatch]] = []
        for delivery in deliveries:
            batch = await self._read(delivery)
            count += len(batch.envelopes)
            if delivery.returned >= SUSPECT:
                suspects.append((delivery, batch))
                continue
            group.deliveries.append(delivery)
            group.envelopes += batch.envelopes
            if len(group.envelopes) >= EVENTS:
                await self._settle(group)
                group = _Group()
        await self._settle(group)
        for delivery, batch in suspects:  # last, when the others are settled
            await self._settle_suspect(delivery, batch)
        return count

    async def _read(self, delivery: Delivery) -> EventBatch:
        """Decode *delivery*, and bury the elements that cannot be read."""
        message = delivery.message
        try:
            batch = cloudevents.decode(message.name, message.body)
        except Undecodable as error:
            whole = Unreadable(message.body, str(error), _as_uuid(message.id))
            batch = EventBatch((), (whole,))
        if batch.unreadable:
            await self._until_stored(self.inbox.bury, message.name, batch.unreadable)
        return batch

    async def _settle(self, group: _Group) -> None:
        if group.envelopes:
            await self._until_stored(self.inbox.settle, group.envelopes)
        if group.deliveries:
            self.inbox.points.reached(f"{self.inbox.service}.committed")
            for each in group.deliveries:
                await each.ack()
            self.inbox.points.reached(f"{self.inbox.service}.acknowledged")

    async def _settle_suspect(self, delivery: Delivery, batch: EventBatch) -> None:
        if delivery.returned > SUSPECT and batch.envelopes:
            await self._until_stored(self.inbox.isolate, batch.envelopes, delivery.returned)
            await delivery.ack()
        else:
            await self._settle(_Group([delivery], list(batch.envelopes)))

    async def _until_stored(self, act: Callable[..., Awaitable[None]], *args: Any) -> None:
        """Repeat *act* until it succeeds; the delivery stays unacknowledged.

        No error ends it: the delivery would come back with a higher count, as if its reader had
        crashed, and meet the same error. Raises `BusUnavailable` after `HOLD_SECONDS`.
        """
        tries = 0
        seconds = asyncio.get_running_loop().time
        until = seconds() + HOLD_SECONDS
        while True:
            try:
                return await act(*args)
            except Exception as error:
                tries += 1
                if is_transient(error):
                    self._log.warning("database unavailable", error=str(error), tries=tries)
                else:
                    self._log.error("events cannot be stored", exc_info=error, tries=tries)
                if seconds() >= until:
                    raise BusUnavailable(f"given back after {HOLD_SECONDS:g} s: {error}") from error
            await asyncio.sleep(RECONNECT.delay(tries, random.random()))

    @property
    def _log(self) -> Any:
        return get_logger(service=self.inbox.service, part="consumer")


def _as_uuid(text: str) -> uuid.UUID | None:
    with contextlib.suppress(ValueError):
        return uuid.UUID(text)
    return None
