"""The inbox of a service: each event takes effect once, or is parked as a row.

    settle ──▶ apply all in one transaction ──▶ committed
                 │ fails: each half by itself, down to the one that fails alone ──▶ parked
    isolate ──▶ parked one by one, untried: their message has crashed its readers
    retry_parked ──▶ tried again with growing delay, alone ──▶ committed, or dead after `TRIES`

A failing event costs its batch about two transactions for each halving, and delays no other batch.
While the database itself is in trouble no event is at fault: nothing is halved, parked or counted,
`DatabaseUnavailable` is raised, and the caller repeats.
"""

import random
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
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
from shared.postgres.errors import DatabaseUnavailable, is_lost, is_transient
from shared.postgres.pool import Database
from shared.postgres.wakeups import Wakeups

TRIES = 6
"""A handler's failures on one event before it is dead: with `PARKED`, over two minutes."""

DEATHS = 3
"""Reader crashes on one event, alone, before it is dead."""

LOST_CONNECTIONS = 10
"""Lost connections on which an event is tried before it is parked; a pool holds 8 by default."""

RETRIED = 100
"""Parked events leased at once, at most."""

PARKED_LEASE_SECONDS = 60.0


_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass
class _Retries:
    """The memory of this process about parked events, which an outage leaves between two states."""

    left: list[Parked] = field(default_factory=list)
    """Leased until `until`, and not settled."""
    until: datetime = _LONG_AGO
    survived: set[uuid.UUID] = field(default_factory=set)
    """Tries recorded as begun that have ended without an outcome, and not by a crash."""

    def take(self, now: datetime) -> list[Parked]:
        """Take what is left, if it is still leased."""
        left, self.left = self.left, []
        return left if now < self.until else []


@dataclass(frozen=True)
class Inbox:
    """The inbox of one service."""

    service: str
    subscribers: Mapping[type[Event], Subscriber]
    db: Database
    wakeups: Wakeups
    points: Points
    _retries: _Retries = field(default_factory=_Retries)

    async def apply(self, envelopes: Sequence[Envelope[Any]]) -> None:
        """Apply *envelopes* in one transaction, except those that were applied before."""
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
        """Group those that are *fresh* and have a subscriber; the bus promises no order."""
        groups: dict[type[Event], list[Envelope[Any]]] = {}
        for envelope in envelopes:
            kind = type(envelope.body)
            if kind in self.subscribers and envelope.id in fresh:
                fresh.discard(envelope.id)  # one batch may hold the same event twice
                groups.setdefault(kind, []).append(envelope)
        return groups

    async def settle(self, envelopes: Sequence[Envelope[Any]]) -> None:
        """Apply each of *envelopes*, or park it. Raises if neither can be written."""
        try:
            await self.apply(envelopes)
        except Exception as error:  # noqa: BLE001 - the halves show which event it is
            await self._raise_outage(error)
            if len(envelopes) == 1:
                await self._apply_again_or_park(envelopes[0], error)
                return
            half = len(envelopes) // 2
            await self.settle(envelopes[:half])
            await self.settle(envelopes[half:])

    async def _apply_again_or_park(self, envelope: Envelope[Any], error: Exception) -> None:
        """Try again if the database failed: its commit may have taken effect.

        Once if the event itself may be the cause; more often if connections are lost.
        """
        for _ in range(LOST_CONNECTIONS):
            if not is_transient(error):
                break
            try:
                await self.apply([envelope])
                return
            except Exception as again:  # noqa: BLE001 - it is kept in the row
                await self._raise_outage(again)
                error = again
            if not is_lost(error):
                break
        # Parked even if the database may be the cause (a deadlock, a slow statement): repeated
        # here, one event could delay all that come after it.
        await self._keep([parked.failed(envelope, _describe(error))])
        self._log.error(
            "handler failed", event_id=str(envelope.id), event_name=envelope.name, exc_info=error
        )

    async def _raise_outage(self, error: Exception) -> None:
        """Raise `DatabaseUnavailable` if the database, and no event, is the cause of *error*.

        Asked after one failure: a whole batch must not wait for one time limit after another.
        """
        if is_transient(error) and (trouble := await self.db.trouble()) is not None:
            raise DatabaseUnavailable(trouble) from error

    async def isolate(self, envelopes: Sequence[Envelope[Any]], deaths: int) -> None:
        """Park *envelopes* untried: their message was redelivered *deaths* times."""
        why = f"its message came back {deaths} times with no outcome: its reader died"
        await self._keep([parked.failed(each, why) for each in envelopes])
        self._log.error(
            "message isolated: its readers crashed", events=len(envelopes), deaths=deaths
        )

    async def _keep(self, what: Sequence[FailedEvent]) -> None:
        async with self.db.transaction() as tx:
            due_at = tx.now + timedelta(seconds=PARKED.delay(1, random.random()))
            await parked.park(tx, what, due_at)
        self.points.reached(f"{self.service}.parked")
        self.wakeups.wake(parked.RETRY, *tx.wakes)

    async def bury(self, name: str, what: Sequence[Unreadable]) -> None:
        """Park unreadable elements as dead, with their bytes."""
        dead = [
            FailedEvent(
                each.event_id or _id_of_bytes(each.raw),
                name,
                each.raw,
                mask(f"Undecodable: {each.reason}")[:2000],
            )
            for each in what
        ]
        for each in dead:
            self._log.error("event is dead: cannot read it", reason=each.error, name=name)
        async with self.db.transaction() as tx:
            await parked.bury(tx, dead)
        self.points.reached(f"{self.service}.buried")
        self.wakeups.wake(*tx.wakes)

    async def retry_parked(self) -> datetime | None:
        """Apply parked events that are due again; return when the next is due.

        An outage postpones none of them: the next pass goes on with those that are still leased.
        """
        now = self.db.clock.now()
        due, until = self._retries.take(now), self._retries.until
        if not due:
            until = now + timedelta(seconds=PARKED_LEASE_SECONDS)
            async with self.db.connection() as conn:
                due = await parked.lease_parked(conn, now=now, until=until, limit=RETRIED)
        while due:
            each = due.pop(0)
            try:
                await self._retry(each)
            except Exception:
                self._retries.left, self._retries.until = [*due, each], until
                raise
        async with self.db.connection() as conn:
            return await parked.next_parked(conn)

    async def _retry(self, each: Parked) -> None:
        survived = self._retries.survived
        # A try that an outage has interrupted is on record already.
        if each.event_id not in survived:
            if each.unfinished >= DEATHS:
                error = f"its reader died on it {each.unfinished} times"
                await self._postpone(each, error, dead=True)
                return
            async with self.db.connection() as conn:
                await parked.begin_try(conn, each.event_id)
        survived.discard(each.event_id)  # from here a crash counts
        try:
            await self._try(each)
        except Exception:
            survived.add(each.event_id)
            raise

    async def _try(self, each: Parked) -> None:
        try:
            await self.apply([cloudevents.decode_one(each.name, each.body)])
        except Exception as error:  # noqa: BLE001 - it is kept in the row
            await self._raise_outage(error)
            # An outage ends, so it never makes an event dead. An unreadable event (an operator has
            # redriven it) stays unreadable.
            again = is_transient(error) or each.tries + 1 < TRIES
            dead = isinstance(error, Undecodable) or not again
            await self._postpone(each, _describe(error), dead=dead)
        else:
            # After a crash before the row is deleted, the next try changes nothing: the inbox.
            self.points.reached(f"{self.service}.retried")
            async with self.db.transaction() as tx:
                await parked.unpark(tx, each.event_id)
            self.wakeups.wake(*tx.wakes)

    async def _postpone(self, each: Parked, error: str, *, dead: bool) -> None:
        async with self.db.transaction() as tx:
            due_at = tx.now + timedelta(seconds=PARKED.delay(each.tries + 1, random.random()))
            await parked.postpone_parked(tx, each.event_id, error, due_at, dead=dead)
        self.wakeups.wake(*tx.wakes)
        self._log.error(
            "handler failed again", event_id=str(each.event_id), tries=each.tries + 1, dead=dead
        )

    @property
    def _log(self) -> Any:
        return get_logger(service=self.service, part="inbox")


def _describe(error: Exception) -> str:
    return mask(f"{type(error).__name__}: {error}")[:2000]


def _id_of_bytes(raw: bytes) -> uuid.UUID:
    """Derive an id from the bytes, so that a repeat is the same row."""
    return uuid.uuid5(uuid.NAMESPACE_OID, raw.hex())
