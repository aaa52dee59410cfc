"""Readiness of a service: whether its database, the broker, and the queues that it needs are there.

A service without an HTTP server shows it by a file that is touched while it is ready. A container's
health check compares the file's age with `STALE_SECONDS`: a process that hangs, or has lost its
database or broker, stops touching it. A check that starts Python would cost a second of CPU each
time. `shared.runtime.health` answers the same over HTTP.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from shared.bus.port import REMEDY, Bus
from shared.log import get_logger
from shared.postgres.pool import Database

TOUCH_SECONDS = 3.0
STALE_SECONDS = 15


class Readiness(Struct, frozen=True):
    """The dependencies of a service as it finds them now.

    *troubles* has a sentence by the part that is missing: "database", "bus", or "queue <name>".
    *readers* has how many consumers each queue has that the service needs.
    """

    troubles: Mapping[str, str]
    readers: Mapping[str, int | None]
    degraded: Mapping[str, str] = {}
    """By the part of the work that does not go on, with a sentence for operators: the service
    itself is ready."""

    def describe(self) -> str:
        """Return all troubles in one line."""
        return "; ".join(dict.fromkeys(self.troubles.values()))


async def check(db: Database, bus: Bus, queues: Collection[str]) -> Readiness:
    """Ask database and broker, for *queues* too; within some seconds."""
    database, state = await asyncio.gather(db.trouble(), bus.state(queues))
    troubles = {}
    if database is not None:
        troubles["database"] = f"the database {database}"
    if state.trouble is not None:
        troubles["bus"] = f"the broker: {state.trouble}"
    if state.missing:
        lacking = f"the broker has no queue {', '.join(map(repr, state.missing))}: {REMEDY}"
        troubles |= {f"queue {queue}": lacking for queue in state.missing}
    return Readiness(troubles, state.readers)


def answer(readiness: Readiness, *, serves_without_bus: bool = False) -> tuple[int, dict[str, Any]]:
    """Make the answer of `/readyz`: its status and its body.

    *serves_without_bus*: of the parts only the database is needed to be ready.
    """
    troubles, degraded = readiness.troubles, readiness.degraded
    serves = not troubles or (serves_without_bus and "database" not in troubles)
    if serves and not troubles and not degraded:
        return 200, {"status": "ready"}
    if serves:
        because = [readiness.describe()] if troubles else []
        ready = "requests are served" if serves_without_bus else "ready"
        message = "; ".join([ready, *because, *degraded.values()])
        return 200, {"status": "ready", "message": message, "degraded": [*troubles, *degraded]}
    message = f"not ready: {readiness.describe()}"
    return 503, {"status": "not ready", "message": message, "missing": list(troubles)}


async def touch_while_ready(
    path: Path, look: Callable[[], Awaitable[Readiness]], service: str, stop: asyncio.Event
) -> None:
    """Touch *path* every `TOUCH_SECONDS` while *service* is ready, until *stop* is set.

    A change is logged.
    """
    before: Mapping[str, str] | None = None
    while not stop.is_set():
        readiness = await look()
        if not readiness.troubles:
            path.touch()  # noqa: ASYNC240 - a tmpfs: it never blocks
        if readiness.troubles.keys() != (before or {}).keys():
            _log_change(service, readiness)
        before = readiness.troubles
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TOUCH_SECONDS):
                await stop.wait()
    path.unlink(missing_ok=True)  # noqa: ASYNC240


def _log_change(service: str, readiness: Readiness) -> None:
    log = get_logger(service=service, part="readiness")
    if readiness.troubles:
        log.error("not ready", missing=list(readiness.troubles), because=readiness.describe())
    else:
        log.info("ready again")
