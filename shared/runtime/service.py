"""The loops of a service: one for its queue, one for each sweep.

    take ─▶ decode ─▶ begin ─▶ claim inbox ─▶ handler ─▶ append outbox ─▶ commit ─▶ ack
    wake-up, due time or interval ─▶ claim rows ─▶ act outside ─▶ record under the token    (sweeps)

Handlers and sweeps do not know this file. The end of one loop ends the service: a restart is better
than a process without its relay that looks healthy.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NoReturn

from msgspec.structs import replace

from shared.backoff import RECONNECT
from shared.bus.port import Bus, BusUnavailable
from shared.clock import Clock
from shared.crash_points import NoPoints, Points
from shared.events.cloudevents import new_id
from shared.events.events import Event
from shared.events.readers import queues_of
from shared.log import get_logger
from shared.messaging.asked import asked_of
from shared.messaging.consumer import GATHER_SECONDS, Consumer
from shared.messaging.dead_letter_report import DeadLetterReporter
from shared.messaging.inbox import Inbox
from shared.messaging.parked import REPORT, RETRY
from shared.messaging.relay import Relay
from shared.messaging.retention import DeadLetterSweep
from shared.messaging.subscriber import Subscriber
from shared.postgres.pool import Connection, Database, is_transient
from shared.postgres.wakeups import Wakeups
from shared.runtime.failures import as_one
from shared.runtime.readiness import Readiness, check

DRAIN_SECONDS = 8.0
"""The time for handlers and sweeps to finish after SIGTERM; docker gives ten seconds."""

LOOK_SECONDS = 2.0
"""The time for `degraded`; later, readiness is answered without it."""


@dataclass(frozen=True)
class Sweep:
    """A level-triggered, re-entrant pass over due rows.

    `run` returns when it must run next at the latest, or None for "after the interval". It also
    runs on the wake-up of its name, but not sooner than `gather_seconds` after its last pass began:
    a single wake-up is followed at once, a burst is gathered.
    """

    name: str
    run: Callable[[], Awaitable[datetime | None]]
    interval_seconds: float
    gather_seconds: float = 0.0


@dataclass(frozen=True)
class Ports:
    """The ports of a service, the same in every composition."""

    db: Database
    bus: Bus
    clock: Clock
    wakeups: Wakeups
    points: Points


def ports_for(db: Database, bus: Bus, clock: Clock, points: Points | None = None) -> Ports:
    """Make the ports of the service that owns *db*."""
    wakeups = Wakeups(db.dsn, channel=db.schema, identity=new_id())
    return Ports(db=db, bus=bus, clock=clock, wakeups=wakeups, points=points or NoPoints())


class Service:
    """A runnable service: its ports, its subscribers, its sweeps, and the events it publishes.

    *keep_dead*: how long dead letters are kept; None: until they are dropped. *degraded* returns
    what of its work does not go on, for `/readyz`.
    """

    def __init__(
        self,
        name: str,
        ports: Ports,
        *,
        subscribers: Mapping[type[Event], Subscriber],
        sweeps: Sequence[Sweep],
        publishes: Sequence[type[Event]],
        keep_dead: timedelta | None = None,
        degraded: Callable[[Connection], Awaitable[Mapping[str, str]]] | None = None,
    ) -> None:
        self.name = name
        self._degraded = degraded
        self.ports = ports
        self._queues = queues_of(name, publishes)
        subscribers = {**asked_of(name), **subscribers}
        self.inbox = Inbox(name, subscribers, ports.db, ports.wakeups, ports.points)
        self._consumer = Consumer(self.inbox, ports.bus)
        reporter = DeadLetterReporter(ports.db, ports.bus)
        relay = Relay(db=ports.db, bus=ports.bus, points=ports.points)
        self.sweeps: tuple[Sweep, ...] = (
            Sweep(
                "relay_outbox",
                relay.relay_outbox,
                interval_seconds=2,
                gather_seconds=GATHER_SECONDS,
            ),
            Sweep(RETRY, self.inbox.retry_parked, interval_seconds=30),
            Sweep(REPORT, reporter.report_dead_letters, interval_seconds=30, gather_seconds=1),
            Sweep("prune_trace", relay.prune_trace, interval_seconds=600),
            *sweeps,
        )
        if keep_dead is not None:
            dead = DeadLetterSweep(ports.db, keep_dead)
            self.sweeps += (Sweep("prune_dead", dead.prune_dead, interval_seconds=3600),)
        self._draining = asyncio.Event()
        self._log: Any = get_logger(service=name)

    async def look(self) -> Readiness:
        """Look whether database, broker and queues are there, also those it publishes to."""
        readiness = await check(self.ports.db, self.ports.bus, self._queues)
        if self._degraded is None or "database" in readiness.troubles:
            return readiness
        try:
            async with asyncio.timeout(LOOK_SECONDS), self.ports.db.connection() as conn:
                return replace(readiness, degraded=await self._degraded(conn))
        except Exception as error:
            if not is_transient(error) and not isinstance(error, TimeoutError):
                raise
            return readiness  # the next look shows whether the database is missing

    def drain(self) -> None:
        """Start nothing new; `run` returns when the work under way has finished."""
        self._draining.set()

    async def run(self) -> None:
        """Run until drained. Raises the errors of the loops that end by themselves."""
        loops = {f"{self.name}.{sweep.name}": self._run_sweep(sweep) for sweep in self.sweeps}
        loops[f"{self.name}.consumer"] = self._consumer.run(self._draining)
        # Wake-ups are only hints, so they are cancelled rather than drained.
        wakeups = asyncio.create_task(self.ports.wakeups.run(), name=f"{self.name}.wakeups")
        tasks = [asyncio.create_task(loop, name=name) for name, loop in loops.items()]
        stop = asyncio.create_task(self._draining.wait())
        try:
            ended, _ = await asyncio.wait(
                {*tasks, wakeups, stop}, return_when=asyncio.FIRST_COMPLETED
            )
            if self._draining.is_set():
                await asyncio.wait(tasks, timeout=DRAIN_SECONDS)
        finally:
            for task in (*tasks, wakeups, stop):
                task.cancel()
            await asyncio.gather(*tasks, wakeups, stop, return_exceptions=True)
        if not self._draining.is_set():
            _raise_end(sorted(ended, key=asyncio.Task.get_name))
        for task in (*tasks, wakeups):
            if (error := _error_of(task)) and not _passes(error):
                self._log.error("loop failed while draining", loop=task.get_name(), exc_info=error)

    async def _run_sweep(self, sweep: Sweep) -> None:
        woken = self.ports.wakeups.event(sweep.name)
        seconds = asyncio.get_running_loop().time
        failures = 0
        while not self._draining.is_set():
            begun = seconds()
            woken.clear()  # before the pass: a wake-up during it means one more
            try:
                next_at = await sweep.run()
                failures = 0
            except Exception as error:  # noqa: BLE001 - logged, and the next pass reads the rows again
                failures += 1
                self._report(sweep, error, failures)
                await self._pause(RECONNECT.delay(failures, random.random()))
                continue
            wait = self._seconds_until(next_at, sweep.interval_seconds)
            await self._either_draining(asyncio.ensure_future(self.ports.clock.wait(woken, wait)))
            if wait > 0 and (early := begun + sweep.gather_seconds - seconds()) > 0:
                await self._pause(early)

    def _report(self, sweep: Sweep, error: Exception, failures: int) -> None:
        """Log a failed pass. No failure ends the sweep: the next pass reads the rows again."""
        if _passes(error):
            if self._draining.is_set():
                return  # the bus is being closed, and the next start reads the rows
            self._log.warning("sweep waits", sweep=sweep.name, error=str(error), failures=failures)
        else:
            self._log.error("sweep failed", sweep=sweep.name, failures=failures, exc_info=error)

    def _seconds_until(self, next_at: datetime | None, interval: float) -> float:
        if next_at is None:
            return interval
        return min(interval, max(0.0, (next_at - self.ports.clock.now()).total_seconds()))

    async def _pause(self, seconds: float) -> None:
        await self._either_draining(asyncio.ensure_future(asyncio.sleep(seconds)))

    async def _either_draining(self, wait: "asyncio.Future[Any]") -> None:
        stop = asyncio.ensure_future(self._draining.wait())
        try:
            await asyncio.wait({wait, stop}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            wait.cancel()
            stop.cancel()


def _raise_end(ended: "Sequence[asyncio.Task[Any]]") -> NoReturn:
    """Raise for the end of loops: every end is a failure, also a cancellation.

    The dying connection of a frozen broker raises CancelledError into a publish, and the task then
    looks cancelled.
    """
    names = ", ".join(task.get_name() for task in ended)
    errors = [error for task in ended if (error := _error_of(task))]
    raise RuntimeError(f"{names} ended by itself") from as_one(errors)


def _error_of(task: "asyncio.Task[Any]") -> BaseException | None:
    return None if task.cancelled() else task.exception()


def _passes(error: BaseException) -> bool:
    """Return whether the error is of a database or broker that is away for now."""
    return is_transient(error) or isinstance(error, BusUnavailable)
