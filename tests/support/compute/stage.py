"""One service on a real database: deliver events, run its sweeps, read its rows and events."""

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar

from shared.events.cloudevents import Envelope
from shared.events.events import Event
from shared.runtime.service import Ports, Service
from tests.support.rows.messages import TRACE, events_in, wrapped

E = TypeVar("E", bound=Event)


class Crash(Exception):
    """The process ends here."""


class CrashPoint:
    """Points that raise `Crash` at one of them: what follows in the code never happens."""

    def __init__(self, point: str) -> None:
        self._point = point

    def reached(self, point: str) -> None:
        if point == self._point:
            raise Crash(point)


def crashing(ports: Ports, point: str) -> Ports:
    """Return the same ports for a process that crashes at *point*."""
    return dataclasses.replace(ports, points=CrashPoint(point))


class Stage:
    """A service under test."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.ports = service.ports
        self._sweeps = {sweep.name: sweep.run for sweep in service.sweeps}

    async def deliver(self, *events: Event, trace: str = TRACE) -> None:
        """Deliver each event twice, as a broker may."""
        for event in events:
            envelope = wrapped(event, at=self.ports.clock.now(), trace=trace)
            await self.service.inbox.apply([envelope])
            await self.service.inbox.apply([envelope])

    async def sweep(self, name: str) -> datetime | None:
        """Run a sweep once; return the time of its next run."""
        return await self._sweeps[name]()

    async def published(self, kind: type[E]) -> list[E]:
        """Return what the service has published so far of this kind, in order."""
        return [each.body for each in await self.outbox() if isinstance(each.body, kind)]

    async def outbox(self) -> list[Envelope[Any]]:
        """Read all events in the outbox, in order."""
        return events_in(await self.rows("SELECT name, body FROM outbox ORDER BY id"))

    async def rows(self, sql: str) -> Sequence[dict[str, Any]]:
        """Read rows of the service's own tables."""
        async with self.ports.db.connection() as conn:
            return [dict(row) for row in await conn.fetch(sql)]
