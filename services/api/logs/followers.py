"""The followers of jobs in this process: a change wakes those of its job and no others.

Changes here are announced to the API's other processes too, since their clients may follow the job.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator


class Followers:
    """A set of events for each followed job; other jobs cost nothing."""

    def __init__(self, announce: Callable[[int], None]) -> None:
        self._announce = announce
        self._events: dict[int, set[asyncio.Event]] = {}

    @contextlib.contextmanager
    def follow(self, job_id: int) -> Iterator[asyncio.Event]:
        """Yield an event that is set whenever the job may have changed, while the block lasts."""
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
        """Wake the followers of a job that was changed here, in all processes."""
        self.wake(job_id)
        self._announce(job_id)

    def wake(self, job_id: int) -> None:
        """Wake the followers of the job in this process."""
        for event in self._events.get(job_id, ()):
            event.set()
