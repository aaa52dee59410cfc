"""Who follows which job in this process, so that a change wakes them and nobody else.

What changes here is told to the other processes of this API too, since their clients may follow it.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator


class Followers:
    """A set of events for each followed job; jobs that nobody follows cost nothing."""

    def __init__(self, announce: Callable[[int], None]) -> None:
        self._announce = announce
        self._events: dict[int, set[asyncio.Event]] = {}

    @contextlib.contextmanager
    def follow(self, job_id: int) -> Iterator[asyncio.Event]:
        """An event that is set whenever the job may look different, while the block lasts."""
        event = asyncio.Event()
        self._events.setdefault(job_id, set()).add(event)
        try:
            yield event
        finally:
            followers = self._events[job_id]
            followers.discard(event)
            if not followers:
                del self._events[job_id]

    def changed(self, job_id: int) -> None:
        """The job may look different now: something was done here."""
        self.wake(job_id)
        self._announce(job_id)

    def wake(self, job_id: int) -> None:
        """Wake who follows the job here."""
        for event in self._events.get(job_id, ()):
            event.set()
