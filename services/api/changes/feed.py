"""The changes of jobs in the order of commits, as their followers in this process read them.

    commit ─▶ new_job_changes ─ number, under one lock ─▶ job_changes ─ read after a position ─▶

Whoever reads numbers first what has been committed; a sweep does it where nobody reads. Followers
keep no queue: each reads on from its own position. Those at the same one share a read.
"""

import asyncio
from datetime import datetime, timedelta

from services.api.changes import store
from services.api.changes.store import Page, Position
from services.api.jobs.changes import CHANGES
from shared.postgres.pool import Database
from shared.postgres.wakeups import Wakeups

PAGE = 200
NUMBERED, PRUNED = 1000, 1000
"""Changes in one transaction, at most."""

NUMBER_SECONDS = 15.0
PRUNE_SECONDS = 600.0


class ChangeFeed:
    """Reads, numbers and prunes changes, which are kept for the time *keep*."""

    def __init__(self, db: Database, wakeups: Wakeups, keep: timedelta) -> None:
        self.db = db
        self._keep = keep
        self._reads: dict[Position, asyncio.Task[Page]] = {}
        # A read that began before a commit is of no use to a follower that this commit has woken.
        wakeups.listen(CHANGES, lambda _: self._reads.clear())

    async def begin(self) -> Position:
        """Return the position behind all that is committed now."""
        while await self._number() >= NUMBERED:
            pass
        return (await self._read(None)).last

    async def read(self, after: Position) -> Page:
        """Read the next changes after a position; none if there are none yet.

        Of the followers at one position the first reads for all.
        """
        reading = self._reads.get(after)
        if reading is None:
            reading = asyncio.create_task(self._read(after), name="read changes")
            self._reads[after] = reading
            reading.add_done_callback(lambda done: self._end(after, done))
        return await asyncio.shield(reading)  # one that leaves stops it for no other

    def _end(self, after: Position, done: "asyncio.Task[Page]") -> None:
        if self._reads.get(after) is done:
            del self._reads[after]
        if not done.cancelled():
            done.exception()  # nobody awaits it if all have left

    async def _read(self, after: Position | None) -> Page:
        page = await self._page(after)
        if page is None or (page.unnumbered and len(page.changes) < PAGE and not page.lost):
            await self._number()
            page = await self._page(after)
        if page is None:
            raise RuntimeError("the counter of changes was deleted")
        return page

    async def _page(self, after: Position | None) -> Page | None:
        async with self.db.connection() as conn:
            return await store.read_page(conn, after, PAGE)

    async def _number(self) -> int:
        async with self.db.transaction() as tx:
            return await store.number_changes(tx, NUMBERED)

    async def number_changes(self) -> datetime | None:
        """Number what nobody has read; return when to go on."""
        return self.db.clock.now() if await self._number() >= NUMBERED else None

    async def prune_changes(self) -> datetime | None:
        """Delete old changes, a batch at a time; return when to go on."""
        async with self.db.transaction() as tx:
            more = await store.prune_changes(tx, tx.now - self._keep, PRUNED)
        return self.db.clock.now() if more else None
