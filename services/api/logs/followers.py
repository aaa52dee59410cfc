"""The followers of jobs in this process: a change wakes those of its job and no others.

Changes here are announced to the API's other processes too, since their clients may follow the job.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from services.api.group_commit import Overloaded

MOST = 1000
"""The followers of one process: each has a connection, and reads the database every few seconds."""


class Followers:
    """A set of events for each followed job; other jobs cost nothing."""

    def __init__(self, announce: Callable[[int], None], most: int = MOST) -> None:
        self._announce = announce
        self._most = most
        self._events: dict[int, set[asyncio.Event]] = {}
        self._count = 0

    def check_room(self) -> None:
        """Raise `Overloaded` if there are as many followers as are allowed."""
        if self._count >= self._most:
            raise Overloaded("too many clients follow the logs of jobs: try again")

    @contextlib.contextmanager
    def follow(self, job_id: int) -> Iterator[asyncio.Event]:
        """Yield an event that is set whenever the job may have changed, while the block lasts."""
        event = asyncio.Event()
        self._events.setdefault(job_id, set()).add(event)
        self._count += 1
        try:
            yield event
        finally:
            self._count -= 1
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
