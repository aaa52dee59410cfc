"""Users' calls about a job: status and cancel. `submission.intake` accepts jobs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from services.api.audit import acts
from services.api.audit.acts import Actor
from services.api.audit.store import add_act
from services.api.jobs import consoles, decisions, unit_of_work, views
from services.api.jobs import store as job_store
from services.api.jobs.model import JobRules
from shared.crash_points import Points
from shared.postgres.pool import Database
from shared.postgres.wakeups import Wakeups


class NoSuchJob(Exception):
    """There is no job with this id."""


class AlreadyOver(Exception):
    """The job is already terminal."""


@dataclass(frozen=True)
class JobService:
    """Status and cancellation of jobs."""

    db: Database
    rules: JobRules
    wakeups: Wakeups
    points: Points
    trouble: Callable[[], str | None]
    """Returns why no due job can be launched now: `launch_path`."""

    async def status(self, job_id: int) -> dict[str, Any]:
        """Return one job with all of its attempts. Raises `NoSuchJob`."""
        async with self.db.connection() as conn:
            whole = await job_store.load_whole_job(conn, job_id)
            if whole is None:
                raise NoSuchJob(f"there is no job {job_id}")
            job, attempts = whole
            printed = await consoles.load_consoles(conn, job_id, attempts)
        now = self.db.clock.now()
        return views.detailed(job, attempts, now, self.rules, self.trouble(), printed)

    async def cancel(self, job_id: int, actor: Actor) -> dict[str, Any]:
        """Cancel a job at any stage. Raises `NoSuchJob` and `AlreadyOver`."""
        async with self.db.transaction() as tx:
            whole_job = await job_store.lock_whole_job(tx, job_id)
            if whole_job is None:
                raise NoSuchJob(f"there is no job {job_id}")
            # Cancelling is final: no delay is drawn, so there is nothing to jitter.
            step = decisions.decide_cancel(whole_job, tx.now, 0.0, self.rules)
            if step is None:
                status = whole_job.job.status
                raise AlreadyOver(f"job {job_id} is already {status} and cannot be cancelled")
            await unit_of_work.save_and_publish(tx, whole_job, step)
            await add_act(tx, actor, "job.cancel", job_id=job_id)
        self.points.reached("api.cancelled")
        acts.log(actor, "job.cancel", [job_id])
        self.wakeups.wake(*tx.wakes)
        return await self.status(job_id)
