"""What becomes of events that a service has taken: each takes effect once, or becomes a row.

    settle ──▶ apply all in one transaction ──▶ committed
                 │ fails: each half by itself, down to the one that fails alone ──▶ parked
    isolate ──▶ parked one by one, untried: their message has killed its readers
    retry_parked ──▶ tried again with growing delay, alone ──▶ committed, or dead after `TRIES`

One event that cannot be handled costs its batch about two transactions for each time that the batch
can be halved, and delays nobody else.
"""

import random
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from shared.backoff import PARKED
from shared.crash_points import Points
from shared.events import cloudevents
from shared.events.cloudevents import Envelope, Undecodable, Unreadable
from shared.events.events import Event
from shared.log import get_logger, mask
from shared.messaging import parked
from shared.messaging import store as messages
from shared.messaging.parked import FailedEvent, Parked
from shared.messaging.subscriber import Subscriber
from shared.postgres.pool import Database, is_transient
from shared.postgres.wakeups import Wakeups

TRIES = 6
"""How often a handler may fail on one event before it is dead: with `PARKED`, over two minutes."""

DEATHS = 3
"""How many readers may die on one event, alone, before it is dead."""

RETRIED = 100
"""Parked events leased at once, at most."""

PARKED_LEASE_SECONDS = 60.0


@dataclass(frozen=True)
class Inbox:
    """The events of one service, from what was read to rows."""

    service: str
    subscribers: Mapping[type[Event], Subscriber]
    db: Database
    wakeups: Wakeups
    points: Points

    async def apply(self, envelopes: Sequence[Envelope[Any]]) -> None:
        """Let *envelopes* take effect, in one transaction; those that have already pass by."""
        out: list[Envelope[Any]] = []
        async with self.db.transaction() as tx:
            fresh = await messages.claim_inbox(tx, envelopes)
            for kind, group in self._by_kind(envelopes, fresh).items():
                out += await self.subscribers[kind].handler(group, tx)
                tx.wakes.update(self.subscribers[kind].wakes)
            await messages.append_outbox(tx, out)
            self.points.reached(f"{self.service}.before_commit")
        self.wakeups.wake(*tx.wakes)

    def _by_kind(
        self, envelopes: Sequence[Envelope[Any]], fresh: set[uuid.UUID]
    ) -> dict[type[Event], list[Envelope[Any]]]:
        """Those that are *fresh* and have a subscriber; the bus promises no order to keep."""
        groups: dict[type[Event], list[Envelope[Any]]] = {}
        for envelope in envelopes:
            kind = type(envelope.body)
            if kind in self.subscribers and envelope.id in fresh:
                fresh.discard(envelope.id)  # the same event may stand twice in one batch
                groups.setdefault(kind, []).append(envelope)
        return groups

    async def settle(self, envelopes: Sequence[Envelope[Any]]) -> None:
        """Let each of *envelopes* take effect, or park it. Raises where neither can be written."""
        try:
            await self.apply(envelopes)
        except Exception as error:  # noqa: BLE001 - whatever it was, the halves tell whose it is
            if len(envelopes) == 1:
                await self._apply_again_or_park(envelopes[0], error)
                return
            half = len(envelopes) // 2
            await self.settle(envelopes[:half])
            await self.settle(envelopes[half:])

    async def _apply_again_or_park(self, envelope: Envelope[Any], error: Exception) -> None:
        """Try once more where the database failed: its commit may have taken effect."""
        if is_transient(error):
            try:
                await self.apply([envelope])
                return
            except Exception as again:  # noqa: BLE001 - it is kept in the row
                error = again
        await self._park(envelope, error)

    async def _park(self, envelope: Envelope[Any], error: Exception) -> None:
        # Parked even where it may be the database's fault (a deadlock, a statement that takes too
        # long): were it repeated here, one event could hold up all that come after it.
        await self._keep([parked.failed(envelope, _describe(error))])
        self._log.error(
            "handler failed", event_id=str(envelope.id), event_name=envelope.name, exc_info=error
        )

    async def isolate(self, envelopes: Sequence[Envelope[Any]], deaths: int) -> None:
        """Park *envelopes* untried: their message came back *deaths* times with no outcome."""
        why = f"its message came back {deaths} times with no outcome: its reader died"
        await self._keep([parked.failed(each, why) for each in envelopes])
        self._log.error("message isolated: its readers died", events=len(envelopes), deaths=deaths)

    async def _keep(self, what: Sequence[FailedEvent]) -> None:
        async with self.db.transaction() as tx:
            due_at = tx.now + timedelta(seconds=PARKED.delay(1, random.random()))
            await parked.park(tx, what, due_at)
        self.points.reached(f"{self.service}.parked")
        self.wakeups.wake("retry_parked")

    async def bury(self, name: str, what: Sequence[Unreadable]) -> None:
        """Keep what cannot be read as dead, with its bytes."""
        dead = [
            FailedEvent(each.event_id or _id_of_bytes(each.raw), name, each.raw, _unreadable(each))
            for each in what
        ]
        for each in dead:
            self._log.error("event is dead: it cannot be read", reason=each.error, name=name)
        async with self.db.transaction() as tx:
            await parked.bury(tx, dead)
        self.points.reached(f"{self.service}.buried")

    async def retry_parked(self) -> datetime | None:
        """Sweep: hand parked events that are due to their handlers again."""
        now = self.db.clock.now()
        async with self.db.connection() as conn:
            until = now + timedelta(seconds=PARKED_LEASE_SECONDS)
            due = await parked.lease_parked(conn, now=now, until=until, limit=RETRIED)
        for each in due:
            await self._retry(each)
        async with self.db.connection() as conn:
            return await parked.next_parked(conn)

    async def _retry(self, each: Parked) -> None:
        if each.unfinished >= DEATHS:
            error = f"its reader died on it {each.unfinished} times"
            await self._postpone(each, error, dead=True)
            return
        async with self.db.connection() as conn:
            await parked.begin_try(conn, each.event_id)
        try:
            await self.apply([cloudevents.decode_one(each.name, each.body)])
        except Exception as error:  # noqa: BLE001 - it is kept in the row
            # An outage is over some day, however long: what it keeps from its effect does not die
            # of it. What cannot be read (somebody has redriven it) will not be readable later.
            again = is_transient(error) or each.tries + 1 < TRIES
            dead = isinstance(error, Undecodable) or not again
            await self._postpone(each, _describe(error), dead=dead)
        else:
            # A crash before the row is gone only means one more try, which the inbox makes empty.
            self.points.reached(f"{self.service}.retried")
            async with self.db.transaction() as tx:
                await parked.unpark(tx, each.event_id)

    async def _postpone(self, each: Parked, error: str, *, dead: bool) -> None:
        async with self.db.transaction() as tx:
            due_at = tx.now + timedelta(seconds=PARKED.delay(each.tries + 1, random.random()))
            await parked.postpone_parked(tx, each.event_id, error, due_at, dead=dead)
        self._log.error(
            "handler failed again", event_id=str(each.event_id), tries=each.tries + 1, dead=dead
        )

    @property
    def _log(self) -> Any:
        return get_logger(service=self.service, part="inbox")


def _describe(error: Exception) -> str:
    return mask(f"{type(error).__name__}: {error}")[:2000]


def _unreadable(what: Unreadable) -> str:
    return mask(f"Undecodable: {what.reason}")[:2000]


def _id_of_bytes(raw: bytes) -> uuid.UUID:
    """Made of the bytes, so that a repeat is the same row."""
    return uuid.uuid5(uuid.NAMESPACE_OID, raw.hex())
