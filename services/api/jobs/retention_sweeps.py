"""The sweep that removes old logs and jobs, and the removal of one job for an admin.

Each batch is a short transaction over jobs that no other transaction has locked, followed by a
pause: nothing waits for it, and it takes a small part of the database's time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from services.api.audit import acts
from services.api.audit.acts import Actor
from services.api.audit.store import add_act
from services.api.jobs import retention_store as rows
from services.api.jobs import store as job_store
from services.api.jobs import totals
from services.api.jobs.model import JobRules
from services.api.jobs.queries import NoSuchJob
from services.api.jobs.retention import (
    Retention,
    RetentionSettings,
    decide_blocking,
    decide_kept,
    describe,
    pause_after,
)
from services.api.jobs.retention_store import Finish
from services.api.jobs.unit_of_work import open_free
from shared.log import get_logger
from shared.postgres.pool import Connection, Database, Transaction

_log = get_logger(service="api", part="retention")

JOBS, LOG_ROWS = 200, 1000
"""A batch, at most."""

BEGINNING = Finish(datetime.min.replace(tzinfo=UTC), 0)

Find = Callable[[Connection, Finish, datetime, int], Awaitable[list[Finish]]]
Remove = Callable[[Transaction, list[int]], Awaitable[bool]]


class NotRemovable(Exception):
    """The job's record may not be removed yet; the message says what it waits for."""


@dataclass
class Round:
    """The progress of one walk over the old jobs, each of which is looked at once in a round.

    Those that may not be removed yet, or that are locked, are looked at again in the next round.
    """

    what: str
    after: Finish = BEGINNING
    removed: int = 0
    ended: bool = False


@dataclass(frozen=True)
class RetentionSweep:
    """Removes the logs, then the jobs, that finished longer ago than they are kept."""

    db: Database
    rules: JobRules
    settings: RetentionSettings
    logs: Round = field(default_factory=lambda: Round("logs"))
    jobs: Round = field(default_factory=lambda: Round("jobs"))
    described: list[str] = field(default_factory=list)
    """The sentence about the settings, once it has been logged."""

    async def prune_jobs(self) -> datetime | None:
        """Remove one batch of logs or else of jobs; return when to go on, None if none is left."""
        kept = await self._kept()
        began, now = asyncio.get_running_loop().time(), self.db.clock.now()
        more = await self._batch(
            self.logs, kept.logs_before(now), rows.finished_with_logs, self._remove_logs
        ) or await self._batch(
            self.jobs, kept.jobs_before(now), rows.finished_without_logs, self._remove_jobs
        )
        if not more:
            # Together: a round of logs for each batch of jobs would read past all removed ones.
            self.logs.ended = self.jobs.ended = False
            return None
        seconds = asyncio.get_running_loop().time() - began
        return self.db.clock.now() + timedelta(seconds=pause_after(seconds))

    async def _kept(self) -> Retention:
        async with self.db.connection() as conn:
            defaults = await rows.load_defaults(conn)
        kept = decide_kept(self.settings, defaults)
        if not self.described:
            self.described.append(describe(kept))
            _log.info(describe(kept), jobs_days=kept.jobs_days, logs_days=kept.logs_days)
        return kept

    async def _batch(
        self, walk: Round, before: datetime | None, find: Find, remove: Remove
    ) -> bool:
        """Remove one batch; return whether the round goes on."""
        if before is None or walk.ended:
            return False
        async with self.db.connection() as conn:
            page = await find(conn, walk.after, before, JOBS)
        if not page:
            if walk.removed:
                _log.info(f"old {walk.what} removed", count=walk.removed, before=str(before))
            walk.after, walk.removed, walk.ended = BEGINNING, 0, True
            return False
        async with self.db.transaction() as tx:
            whole = await remove(tx, [each.job_id for each in page])
        if whole:
            walk.after = page[-1]
        return True

    async def _remove_logs(self, tx: Transaction, job_ids: list[int]) -> bool:
        locked = await rows.lock_free_ids(tx, job_ids)
        whole = await rows.remove_logs(tx, locked, LOG_ROWS)
        self.logs.removed += len(locked) if whole else 0
        return whole

    async def _remove_jobs(self, tx: Transaction, job_ids: list[int]) -> bool:
        work = await open_free(tx, job_ids)
        keyed = await rows.find_keyed(tx.conn, job_ids)
        locked = [found for each in job_ids if (found := work.find(each)) is not None]
        removable = [
            each.job.id
            for each in locked
            if each.job.id not in keyed and decide_blocking(each, tx.now, self.rules) is None
        ]
        await _remove(tx, removable)
        self.jobs.removed += len(removable)
        return True


@dataclass(frozen=True)
class RecordService:
    """The removal of one job's record."""

    db: Database
    rules: JobRules

    async def remove(self, job_id: int, actor: Actor) -> None:
        """Remove a finished job and all that belongs to it, its Idempotency-Key too.

        Raises `NoSuchJob` and `NotRemovable`.
        """
        async with self.db.transaction() as tx:
            whole_job = await job_store.lock_whole_job(tx, job_id)
            if whole_job is None:
                raise NoSuchJob(f"there is no job {job_id}")
            blocking = decide_blocking(whole_job, tx.now, self.rules)
            if blocking is not None:
                raise NotRemovable(blocking)
            await _remove(tx, [job_id])
            await add_act(tx, actor, "job.remove", job_id=job_id)
        acts.log(actor, "job.remove", [job_id])


async def _remove(tx: Transaction, job_ids: Sequence[int]) -> None:
    if job_ids:
        await totals.add_totals(tx, job_ids)
        await rows.remove_jobs(tx, job_ids)
