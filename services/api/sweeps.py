"""What the API must look at by itself: attempts that have gone silent, keys that have grown old."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.api import decisions
from services.api.model import Rules
from services.api.store import jobs, keys, proofs, steps
from services.api.store.jobs import Owner
from shared.db import Database, is_transient
from shared.log import get_logger
from shared.passes import next_pass
from shared.points import Points

_log = get_logger(service="api", part="sweeps")

BATCH = 100
KEEP_KEYS = timedelta(days=7)


@dataclass(frozen=True)
class Sweeps:
    """The API's sweeps over its own rows; they touch nothing outside."""

    db: Database
    rules: Rules
    points: Points
    changed: Callable[[int], None]
    told: Callable[[], None]
    jitter: Callable[[], float]

    async def end_silent(self) -> datetime | None:
        """End the attempts whose instance or agent has not been heard of for too long."""
        now = self.db.clock.now()
        async with self.db.connection() as conn:
            owners = await jobs.overdue(conn, now, BATCH)
        for owner in owners:
            try:
                await self._look_at(owner)
            except Exception as error:  # one that cannot be looked at must not hide the others
                if is_transient(error):
                    raise
                _log.exception("attempt cannot be looked at", job=owner.job_id)
        async with self.db.connection() as conn:
            next_due = await jobs.next_check(conn)
        return next_pass(now, full=len(owners) == BATCH, next_due=next_due)

    async def _look_at(self, owner: Owner) -> None:
        async with self.db.transaction() as tx:
            case = await jobs.lock_case(tx, owner.job_id)
            if case is None:
                return
            attempt = case.attempt(owner.attempt)
            # Looked at again under the lock: a heartbeat or a replica may have been faster.
            if attempt.check_at is None or attempt.check_at > tx.now:
                return
            step = decisions.decide_overdue(case, attempt, tx.now, self.jitter(), self.rules)
            await steps.save_and_tell(tx, case.job, step)
        if step.events:
            self.points.reached("api.silent_ended")
            self.changed(owner.job_id)
            self.told()

    async def forget_keys(self) -> datetime | None:
        """Forget idempotency keys of a week ago, and proofs of identity that have expired."""
        now = self.db.clock.now()
        async with self.db.connection() as conn:
            more = await keys.prune_keys(conn, now - KEEP_KEYS, BATCH * 10)
            await proofs.prune_proofs(conn, now)
        return now if more else None
