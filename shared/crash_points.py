"""Named crash points: one for every crash window.

The program calls `reached` at each step of a commit, publish, ack, launch or termination; nothing
happens in production. A test waits for the point instead of sleeping, or ends the process there
(`DOCKER_JOB_EXIT_AT=point[:nth]`) to show that the next start continues.
"""

import asyncio
import os
from collections import Counter
from typing import Protocol

# An exit status that no shell or signal uses, so that a test recognises the crash it asked for.
EXIT_STATUS = 86


class Points(Protocol):
    """The observer of crash points."""

    def reached(self, point: str) -> None: ...


class NoPoints:
    """For production: ignore every point."""

    def reached(self, point: str) -> None:
        pass


class WatchedPoints:
    """For tests: count the points, and wait for one."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._changed = asyncio.Event()

    def reached(self, point: str) -> None:
        self.counts[point] += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_for(self, point: str, count: int = 1) -> None:
        """Wait until *point* has been reached *count* times in all."""
        while self.counts[point] < count:
            await self._changed.wait()


class ExitPoint:
    """End the process at once, without `finally`, when *point* is reached the *nth* time."""

    def __init__(self, spec: str) -> None:
        point, _, nth = spec.partition(":")
        self._point = point
        self._left = int(nth or 1)

    def reached(self, point: str) -> None:
        if point != self._point:
            return
        self._left -= 1
        if self._left == 0:
            os._exit(EXIT_STATUS)


def points_from(spec: str | None) -> Points:
    """Return the points of a program: none, or the exit point that *spec* names."""
    return ExitPoint(spec) if spec else NoPoints()
