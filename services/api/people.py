"""What people may do with jobs: cancel and look; taking jobs in is `intake`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from services.api import decisions, render
from services.api.model import TERMINAL, Rules
from services.api.store import jobs as store
from services.api.store import steps
from shared.db import Database
from shared.log import get_logger
from shared.points import Points
from shared.wakeups import Wakeups

_log = get_logger(service="api", part="people")


class NoSuchJob(Exception):
    """There is no job with this id."""


class AlreadyOver(Exception):
    """The job has had its last word."""


@dataclass(frozen=True)
class Desk:
    """Serves people."""

    db: Database
    rules: Rules
    wakeups: Wakeups
    points: Points
    changed: Callable[[int], None]

    async def status(self, job_id: int) -> dict[str, Any]:
        """One job with all of its attempts. Raises `NoSuchJob`."""
        async with self.db.connection() as conn:
            whole = await store.load_whole(conn, job_id)
        if whole is None:
            raise NoSuchJob(f"there is no job {job_id}")
        job, attempts = whole
        return render.detailed(job, attempts, self.db.clock.now())

    async def cancel(self, job_id: int) -> dict[str, Any]:
        """Cancel a job at any stage. Raises `NoSuchJob` and `AlreadyOver`."""
        async with self.db.transaction() as tx:
            job = await store.lock_job(tx, job_id)
            if job is None:
                raise NoSuchJob(f"there is no job {job_id}")
            attempt = await store.load_attempt(tx.conn, job_id, job.attempt)
            if job.status in TERMINAL or attempt is None:
                raise AlreadyOver(f"job {job_id} is {job.status} already and cannot be cancelled")
            step = decisions.decide_cancel(job, attempt, tx.now, self.rules)
            if step is not None:
                await steps.save_and_tell(tx, job, step)
        self.points.reached("api.cancelled")
        _log.info("job cancelled", job=job_id, attempt=attempt.number)
        self.wakeups.wake("relay_outbox")
        self.changed(job_id)
        return await self.status(job_id)
