"""The followers of jobs and their changes in this process, woken by what commits in any process.

A wake-up is a hint: it comes after the commit, here at once, from replicas by NOTIFY. A follower
also looks by itself every few seconds, since the connection that carries them may break unnoticed.
"""

import asyncio
import contextlib
from collections.abc import Iterator

from services.api.jobs.changes import CHANGES, JOB
from services.api.shares import Shares
from shared.postgres.wakeups import EVERYTHING, Wakeups

MOST = 1000
"""The followers of all processes: each has a connection, and reads the database when it is woken.
Keys share them."""


class Followers:
    """A set of events for each followed job, and one for all changes; other jobs cost nothing."""

    def __init__(self, wakeups: Wakeups, most: int = MOST) -> None:
        self.shares = Shares(most, "too many clients follow logs or events: try again")
        self._of_job: dict[str, set[asyncio.Event]] = {}
        self._of_all: set[asyncio.Event] = set()
        wakeups.listen(JOB, self._wake_job)
        wakeups.listen(CHANGES, self._wake_all)

    @contextlib.contextmanager
    def follow(self, job_id: int) -> Iterator[asyncio.Event]:
        """Yield an event that is set whenever the job may have changed, while the block lasts."""
        key = str(job_id)
        followers = self._of_job.setdefault(key, set())
        try:
            with self._among(followers) as event:
                yield event
        finally:
            if not followers:
                self._of_job.pop(key, None)

    def follow_all(self) -> contextlib.AbstractContextManager[asyncio.Event]:
        """Yield an event that is set whenever any job may have a new change."""
        return self._among(self._of_all)

    @contextlib.contextmanager
    def _among(self, followers: set[asyncio.Event]) -> Iterator[asyncio.Event]:
        event = asyncio.Event()
        followers.add(event)
        try:
            yield event
        finally:
            followers.discard(event)

    def _wake_job(self, detail: str) -> None:
        if detail == EVERYTHING:
            woken = [event for events in self._of_job.values() for event in events]
        else:
            woken = list(self._of_job.get(detail, ()))
        for event in woken:
            event.set()

    def _wake_all(self, _detail: str) -> None:
        for event in self._of_all:
            event.set()
