"""Time as an argument: the port `Clock` and its two adapters.

No decision reads the wall clock. The runtime reads a clock once per batch and passes the time on,
so that a decision can be replayed and a test can advance time instead of sleeping.
"""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """The current time, and waiting for an event or a timeout."""

    def now(self) -> datetime:
        """Return the current time, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that only grow, whatever the wall clock does; one machine has one scale.

        On Linux that is `CLOCK_MONOTONIC`, see clock_gettime(2).
        """
        ...

    async def wait(self, event: asyncio.Event, timeout: float | None) -> bool:
        """Wait until *event* is set (True) or *timeout* seconds have passed (False)."""
        ...


class RealClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def wait(self, event: asyncio.Event, timeout: float | None) -> bool:
        try:
            async with asyncio.timeout(timeout):
                await event.wait()
        except TimeoutError:
            return False
        return True


class VirtualClock:
    """A clock that a test advances; waiters wake when it passes their deadline."""

    def __init__(self, start: datetime) -> None:
        self._now = start
        self._passed = 0.0
        self._moved = asyncio.Event()

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._passed

    def advance(self, seconds: float) -> None:
        """Advance by *seconds* (negative: a clock that jumps back) and wake every waiter."""
        self._now += timedelta(seconds=seconds)
        self._passed += max(0.0, seconds)
        self._moved.set()
        self._moved = asyncio.Event()

    async def wait(self, event: asyncio.Event, timeout: float | None) -> bool:
        deadline = None if timeout is None else self._now + timedelta(seconds=timeout)
        while not event.is_set():
            if deadline is not None and self._now >= deadline:
                return False
            moved = asyncio.ensure_future(self._moved.wait())
            happened = asyncio.ensure_future(event.wait())
            try:
                await asyncio.wait({moved, happened}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                moved.cancel()
                happened.cancel()
        return True
