"""The sweeps over jobs: end silent attempts, and record when agents could be answered."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.api.jobs import availability_store, decisions, unit_of_work
from services.api.jobs import store as job_store
from services.api.jobs.availability import (
    Outage,
    decide_answered_until,
    decide_outage,
    record_seconds,
    silent_since,
)
from services.api.jobs.model import JobRules
from services.api.jobs.store import Owner
from shared.crash_points import Points
from shared.log import get_logger
from shared.postgres.pool import Database, Transaction, is_transient
from shared.runtime.passes import next_pass

_log = get_logger(service="api", part="sweeps")

BATCH = 100
KEEP_OUTAGES = timedelta(days=30)
"""Longer than any attempt may be watched without a report between two outages."""


@dataclass(frozen=True)
class Sweeps:
    """The API's sweeps over its own rows; they make no call outside the database."""

    db: Database
    rules: JobRules
    points: Points
    changed: Callable[[int], None]
    published: Callable[[], None]
    jitter: Callable[[], float]

    async def end_silent(self) -> datetime | None:
        """End the attempts whose instance or agent has not reported for too long."""
        now = self.db.clock.now()
        async with self.db.connection() as conn:
            owners = await job_store.overdue(conn, now, BATCH)
        for owner in owners:
            try:
                await self._check(owner)
            except Exception as error:  # one that cannot be checked must not block the others
                if is_transient(error):
                    raise
                _log.exception("cannot check attempt", job=owner.job_id)
        async with self.db.connection() as conn:
            next_due = await job_store.next_check(conn)
        return next_pass(now, full=len(owners) == BATCH, next_due=next_due)

    async def _check(self, owner: Owner) -> None:
        async with self.db.transaction() as tx:
            whole_job = await job_store.lock_whole_job(tx, owner.job_id)
            if whole_job is None:
                return
            attempt = whole_job.attempt(owner.attempt)
            # Checked again under the lock: a heartbeat or a replica may have been faster.
            if attempt.check_at is None or attempt.check_at > tx.now:
                return
            outages = await self._outages(tx, silent_since(attempt))
            step = decisions.decide_overdue(
                whole_job, attempt, tx.now, self.jitter(), self.rules, outages
            )
            await unit_of_work.save_and_publish(tx, whole_job.job, step)
        if step.events:
            self.points.reached("api.silent_ended")
            self.changed(owner.job_id)
            self.published()

    async def _outages(self, tx: Transaction, since: datetime) -> Sequence[Outage]:
        """Load the outages after *since*, with the one that is not recorded yet."""
        # In this order: an outage recorded between the two is counted twice, never missed.
        answered_until = await availability_store.load_answered_until(tx.conn)
        recorded = await availability_store.load_outages(tx.conn, since)
        latest = decide_outage(answered_until, tx.now, self.rules)
        return recorded if latest is None else [*recorded, latest]

    async def record_availability(self) -> datetime:
        """Record that agents can be answered now, and an outage after a gap."""
        async with self.db.transaction() as tx:
            before = await availability_store.lock_answered_until(tx)
            outage = decide_outage(before, tx.now, self.rules)
            await availability_store.save_record(tx, decide_answered_until(before, tx.now), outage)
        if outage is not None:
            _log.warning(
                "agents could not be answered; their silence in this time does not count",
                began_at=outage.began_at.isoformat(),
                ended_at=outage.ended_at.isoformat(),
                seconds=round((outage.ended_at - outage.began_at).total_seconds(), 1),
            )
        return tx.now + timedelta(seconds=record_seconds(self.rules))

    async def prune_outages(self) -> None:
        """Delete the outages that no attempt needs any more."""
        async with self.db.connection() as conn:
            await availability_store.prune_outages(conn, self.db.clock.now() - KEEP_OUTAGES)
