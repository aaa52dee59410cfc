"""Ids for new jobs, taken in blocks under load: one round trip for many groups.

An id is used at most once: failed requests, a process that ends, and an unfinished block leave
gaps. A block is kept for `KEEP_SECONDS` only, because `/list` takes the order of the ids for that
of acceptance, and other processes take ids meanwhile. After a restore no process has a block from
before it: the services are stopped then (`operations/resend.py`).
"""

from datetime import datetime, timedelta

from services.api.jobs import store as job_store
from shared.clock import Clock
from shared.postgres.pool import Connection

BLOCK = 256
"""The most ids that are taken in advance."""

KEEP_SECONDS = 1.0


class JobIds:
    """The ids of one process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._left: list[int] = []
        self._fetched_at: datetime | None = None
        self._ahead = 1

    async def take(self, conn: Connection, count: int) -> list[int]:
        """Take *count* new ids, in ascending order."""
        now = self._clock.now()
        recent = self._is_recent(now)
        left = self._left if recent else []
        if len(left) >= count:
            self._left = left[count:]
            return left[:count]
        # Twice as many each time: users read these numbers, and a few requests make few gaps.
        self._ahead = min(BLOCK, 2 * self._ahead) if recent else 1
        self._fetched_at, self._left = now, []
        missing = count - len(left)
        fetched = await job_store.next_job_ids(conn, max(missing, self._ahead))
        self._left = fetched[missing:]
        return left + fetched[:missing]

    def _is_recent(self, now: datetime) -> bool:
        if self._fetched_at is None:
            return False
        return timedelta(0) <= now - self._fetched_at < timedelta(seconds=KEEP_SECONDS)
