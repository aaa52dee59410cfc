"""Readiness of a service without an HTTP server: a file that is touched while it is ready.

A container's health check compares the file's age with `STALE_SECONDS`: a process that hangs, or
has lost its database or broker, stops touching it. A check that starts Python would cost a second
of CPU each time.
"""

import asyncio
import contextlib
from pathlib import Path

from shared.bus.port import Bus
from shared.postgres.pool import Database

TOUCH_SECONDS = 3.0
STALE_SECONDS = 15


async def touch_while_ready(path: Path, db: Database, bus: Bus, stop: asyncio.Event) -> None:
    """Touch *path* every `TOUCH_SECONDS` while database and bus answer, until *stop* is set."""
    while not stop.is_set():
        if await db.ready() and await bus.ready():
            path.touch()  # noqa: ASYNC240 - a tmpfs: it never blocks
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TOUCH_SECONDS):
                await stop.wait()
    path.unlink(missing_ok=True)  # noqa: ASYNC240
