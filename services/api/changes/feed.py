"""The changes of jobs in the order of commits, as their followers in this process read them.

    commit ─▶ new_job_changes ─ number, under one lock ─▶ job_changes ─ read after a position ─▶

Whoever reads numbers first what has been committed; a sweep does it where nobody reads. Followers
keep no queue: each reads on from its own position. Those at the same one share a read.
"""

import asyncio
from datetime import datetime, timedelta

from services.api.changes import store
from services.api.changes.store import ChangePage, ChangePosition
from shared.postgres.pool import Database

PAGE = 200
NUMBERED, PRUNED = 1000, 1000
"""Changes in one transaction, at most."""

NUMBER_SECONDS = 15.0
PRUNE_SECONDS = 600.0


class ChangeFeed:
    """Reads, numbers and prunes changes, which are kept for the time *keep*."""

    def __init__(self, db: Database, keep: timedelta) -> None:
        self.db = db
        self._keep = keep
        self._upcoming: dict[ChangePosition, asyncio.Task[ChangePage]] = {}
        """The reads that have not begun."""

    async def begin(self) -> ChangePosition:
        """Return the position behind all that is committed now."""
        newest = await self._page(None)
        if newest is None or newest.unnumbered:
            while await self._number() >= NUMBERED:
                pass
            newest = await self._read(None)
        return newest.last

    async def read(self, after: ChangePosition) -> ChangePage:
        """Read the next changes after a position; none if there are none yet.

        Followers who are woken together are at one position: the first of them reads for all.
        """
        reading = self._upcoming.get(after)
        if reading is None:
            reading = asyncio.create_task(self._read_for_all(after), name="read changes")
            reading.add_done_callback(_take_error)
            self._upcoming[after] = reading
        return await asyncio.shield(reading)  # one that leaves stops it for no other

    async def _read_for_all(self, after: ChangePosition) -> ChangePage:
        # Who comes from now on may have been woken by a commit that this read does not see.
        del self._upcoming[after]
        return await self._read(after)

    async def _read(self, after: ChangePosition | None) -> ChangePage:
        page = await self._page(after)
        if page is None or (page.unnumbered and len(page.changes) < PAGE and not page.lost):
            await self._number()
            page = await self._page(after)
        if page is None:
            raise RuntimeError("the counter of changes was deleted")
        return page

    async def _page(self, after: ChangePosition | None) -> ChangePage | None:
        async with self.db.connection() as conn:
            return await store.read_page(conn, after, PAGE)

    async def _number(self) -> int:
        async with self.db.transaction() as tx:
            return await store.number_changes(tx, NUMBERED)

    async def number_changes(self) -> datetime | None:
        """Number what nobody has read; return when to go on."""
        newest = await self._page(None)
        if newest is not None and not newest.unnumbered:
            return None
        return self.db.clock.now() if await self._number() >= NUMBERED else None

    async def prune_changes(self) -> datetime | None:
        """Delete old changes, a batch at a time; return when to go on."""
        async with self.db.transaction() as tx:
            more = await store.prune_changes(tx, tx.now - self._keep, PRUNED)
        return self.db.clock.now() if more else None


def _take_error(reading: "asyncio.Task[ChangePage]") -> None:
    """Take the error of a read that nobody may await any more."""
    if not reading.cancelled():
        reading.exception()
