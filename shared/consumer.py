"""One service's queue: what happens to each event between `take` and `ack`.

A batch is first applied in one transaction, which is what makes it fast. Where that fails, each of
its events gets a transaction of its own, so that one that cannot be handled delays only itself: it
is parked as a row and tried again with growing delay, and after `TRIES` it is dead and waits for a
person. Only a database that takes no row either keeps the queue waiting.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

from msgspec import Struct

from shared import messaging, wire
from shared.backoff import PARKED, RECONNECT
from shared.bus.port import Bus, BusUnavailable, Delivery, Message
from shared.db import Database, Transaction, is_transient
from shared.events import Event
from shared.log import get_logger, mask
from shared.messaging import Parked
from shared.points import Points
from shared.wakeups import Wakeups
from shared.wire import Envelope, Undecodable

E = TypeVar("E", bound=Event)

TRIES = 6
"""How often a handler may fail on one event before it is dead: with `PARKED`, over two minutes."""

BATCH = 100
"""Events applied in one transaction, at most."""

GATHER_SECONDS = 0.01
"""Two batches begin so far apart at least, unless the first was full: an event that comes alone is
handled at once, and a stream of them shares its statements and commits.
"""

PARKED_LEASE_SECONDS = 60.0

Handler = Callable[[Any, Transaction], Awaitable[Sequence[Event]]]
"""Event and open transaction in, new events out. It may be called again for the same event only if
its transaction was rolled back. No outside I/O.
"""


class Reaction(Protocol):
    """What is done with events of one kind, and which sweeps that may give work to."""

    @property
    def wakes(self) -> tuple[str, ...]: ...

    async def handle(self, envelopes: Sequence[Envelope], tx: Transaction) -> list[Envelope]:
        """Let *envelopes*, all of one kind, take effect; returns what follows from them."""
        ...


@dataclass(frozen=True)
class Subscriber:
    """A handler, and the sweeps of its own service that its rows may give work to."""

    handler: Handler
    wakes: tuple[str, ...] = ()

    async def handle(self, envelopes: Sequence[Envelope], tx: Transaction) -> list[Envelope]:
        """Hand *envelopes*, all of one kind, to the handler; returns what follows from them."""
        out: list[Envelope] = []
        for envelope in envelopes:
            events = await self.handler(envelope.body, replace(tx, trace=envelope.trace))
            out += [follow(envelope, event, tx) for event in events]
        return out


Recorder = Callable[[Sequence[Any], Transaction], Awaitable[None]]
"""As a `Handler`, for all events of one kind in a batch, and nothing follows from them: it writes
`Told` events down with one statement, where one each would cost a round trip each.
"""


class Told(Struct, Generic[E], frozen=True):
    """An event, and the trace that it bears."""

    event: E
    trace: str


@dataclass(frozen=True)
class Recording:
    """A recorder, and the sweeps that its rows may give work to."""

    recorder: Recorder
    wakes: tuple[str, ...] = ()

    async def handle(self, envelopes: Sequence[Envelope], tx: Transaction) -> list[Envelope]:
        """Hand *envelopes*, all of one kind, to the recorder."""
        await self.recorder([Told(each.body, each.trace) for each in envelopes], tx)
        return []


def follow(envelope: Envelope, event: Event, tx: Transaction) -> Envelope:
    """*event*, which follows from that in *envelope*."""
    return wire.wrap(event, at=tx.now, trace=envelope.trace, cause=envelope.id)


@dataclass(frozen=True)
class Consumer:
    """The queue of one service."""

    queue: str
    subscribers: Mapping[type[Event], Reaction]
    db: Database
    bus: Bus
    wakeups: Wakeups
    points: Points

    async def run(self, draining: asyncio.Event) -> None:
        """Take and handle until *draining* is set; what was taken by then is finished."""
        tries = 0
        progress = asyncio.Event()
        while not draining.is_set():
            try:
                await self._consume(draining, progress)
            except BusUnavailable as error:
                tries = 1 if progress.is_set() else tries + 1
                progress.clear()
                self._log.warning("bus unavailable", error=str(error))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(RECONNECT.delay(tries, random.random())):
                        await draining.wait()

    async def _consume(self, draining: asyncio.Event, progress: asyncio.Event) -> None:
        subscription = await self.bus.subscribe(self.queue)
        stop = asyncio.ensure_future(draining.wait())
        seconds = asyncio.get_running_loop().time
        take: asyncio.Future[Sequence[Delivery]] | None = None
        try:
            while not draining.is_set():
                take = asyncio.ensure_future(subscription.take(BATCH))
                await asyncio.wait({take, stop}, return_when=asyncio.FIRST_COMPLETED)
                if not take.done():
                    return
                begun = seconds()
                await self._handle(take.result())
                progress.set()
                if len(take.result()) < BATCH:
                    await asyncio.wait({stop}, timeout=max(0.0, begun + GATHER_SECONDS - seconds()))
        finally:
            stop.cancel()
            if take is not None:
                take.cancel()  # however this ends: nobody takes what nobody would handle
            await subscription.close()

    async def _handle(self, deliveries: Sequence[Delivery]) -> None:
        """Settle a batch: each delivery takes effect or becomes a row, and is then acknowledged."""
        readable: list[tuple[Delivery, Envelope]] = []
        for delivery in deliveries:
            try:
                readable.append((delivery, wire.decode(delivery.message.body)))
            except Undecodable as error:
                await self._until_stored(self._bury, delivery.message, _describe(error))
                self.points.reached(f"{self.queue}.buried")
                await delivery.ack()
        if not readable:
            return
        try:
            await self.apply([envelope for _, envelope in readable])
        except Exception:  # noqa: BLE001 - whatever it was, alone each event tells for itself
            for delivery, envelope in readable:
                await self._until_stored(self._apply_or_park, delivery.message, envelope)
                await delivery.ack()
        else:
            self.points.reached(f"{self.queue}.committed")
            for delivery, _ in readable:
                await delivery.ack()
        self.points.reached(f"{self.queue}.acknowledged")

    async def apply(self, envelopes: Sequence[Envelope]) -> None:
        """Let *envelopes* take effect, in one transaction; those that have already pass by."""
        out: list[Envelope] = []
        wakes: set[str] = set()
        async with self.db.transaction() as tx:
            fresh = await messaging.claim_inbox(tx, envelopes)
            for kind, group in self._by_kind(envelopes, fresh).items():
                out += await self.subscribers[kind].handle(group, tx)
                wakes.update(self.subscribers[kind].wakes)
            await messaging.append_outbox(tx, out)
            self.points.reached(f"{self.queue}.before_commit")
        if out:
            wakes.add("relay_outbox")
        self.wakeups.wake(*wakes)

    def _by_kind(
        self, envelopes: Sequence[Envelope], fresh: set[str]
    ) -> dict[type[Event], list[Envelope]]:
        """Those that are *fresh* and have a subscriber; the bus promises no order to keep."""
        groups: dict[type[Event], list[Envelope]] = {}
        for envelope in envelopes:
            kind = type(envelope.body)
            if kind in self.subscribers and envelope.id in fresh:
                fresh.discard(envelope.id)  # the same event may stand twice in one batch
                groups.setdefault(kind, []).append(envelope)
        return groups

    async def _apply_or_park(self, message: Message, envelope: Envelope) -> None:
        try:
            await self.apply([envelope])
        except Exception as error:  # noqa: BLE001 - it is kept in the row
            # Parked even where it may be the database's fault (a deadlock, a statement that takes
            # too long): were it repeated here, one event could hold up all that come after it.
            async with self.db.transaction() as tx:
                due_at = tx.now + timedelta(seconds=PARKED.delay(1, random.random()))
                await messaging.park(tx, message, _describe(error), due_at)
            self.points.reached(f"{self.queue}.parked")
            self._log.error(
                "handler failed", event_id=envelope.id, event_name=envelope.name, exc_info=error
            )
            self.wakeups.wake("retry_parked")

    async def _bury(self, message: Message, reason: str) -> None:
        self._log.error("event is dead: it cannot be read", reason=reason, name=message.name)
        async with self.db.transaction() as tx:
            await messaging.bury(tx, message, reason)

    async def _until_stored(self, act: Callable[..., Awaitable[None]], *args: Any) -> None:
        """Repeat *act* while the database is away: the delivery stays unacknowledged meanwhile."""
        tries = 0
        while True:
            try:
                return await act(*args)
            except Exception as error:
                if not is_transient(error):
                    raise
                tries += 1
                self._log.warning("database unavailable", error=str(error), tries=tries)
                await asyncio.sleep(RECONNECT.delay(tries, random.random()))

    async def retry_parked(self) -> datetime | None:
        """Sweep: hand parked events that are due to their handlers again."""
        now = self.db.clock.now()
        async with self.db.connection() as conn:
            until = now + timedelta(seconds=PARKED_LEASE_SECONDS)
            due = await messaging.lease_parked(conn, now=now, until=until, limit=BATCH)
        for parked in due:
            await self._retry(parked)
        async with self.db.connection() as conn:
            return await messaging.next_parked(conn)

    async def _retry(self, parked: Parked) -> None:
        try:
            envelope = wire.decode(parked.message.body)
            await self.apply([envelope])
        except Exception as error:  # noqa: BLE001 - it is kept in the row
            await self._postpone(parked, error)
        else:
            # A crash before the row is gone only means one more try, which the inbox makes empty.
            self.points.reached(f"{self.queue}.retried")
            async with self.db.transaction() as tx:
                await messaging.unpark(tx, parked.message.event_id)

    async def _postpone(self, parked: Parked, error: Exception) -> None:
        tries = parked.tries + 1
        # An outage is over some day, however long: what it keeps from its effect does not die of
        # it. What cannot be read (somebody has redriven it) will not be readable later.
        dead = isinstance(error, Undecodable) or (tries >= TRIES and not is_transient(error))
        async with self.db.transaction() as tx:
            due_at = tx.now + timedelta(seconds=PARKED.delay(tries, random.random()))
            await messaging.postpone_parked(
                tx, parked.message.event_id, _describe(error), due_at, dead=dead
            )
        self._log.error(
            "handler failed again", event_id=parked.message.event_id, tries=tries, dead=dead
        )

    @property
    def _log(self) -> Any:
        return get_logger(service=self.queue, part="consumer")


def _describe(error: Exception) -> str:
    return mask(f"{type(error).__name__}: {error}")[:2000]
