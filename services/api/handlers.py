"""What the API makes of the others' facts: load under the job's lock, decide, save, tell."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.api import decisions
from services.api.model import Attempt, Job, Rules, Step
from services.api.store import jobs as store
from shared.db import Transaction
from shared.events import (
    Event,
    InstanceLaunched,
    InstanceRequested,
    InstanceTerminated,
    LaunchDelayed,
    LaunchRefused,
)


class UnknownJob(Exception):
    """A fact about a job that is not here: parked, and dead in the end, for a person to see."""


@dataclass(frozen=True)
class Handlers:
    """One method an event; `changed` is told the id of each job that may look different now."""

    rules: Rules
    changed: Callable[[int], None]

    async def on_instance_requested(
        self, event: InstanceRequested, tx: Transaction
    ) -> Sequence[Event]:
        job, attempt = await self._load(tx, event.job_id, event.attempt)
        return await self._save(tx, job, decisions.decide_requested(job, attempt, tx.now))

    async def on_launch_delayed(self, event: LaunchDelayed, tx: Transaction) -> Sequence[Event]:
        job, attempt = await self._load(tx, event.job_id, event.attempt)
        return await self._save(tx, job, decisions.decide_delayed(job, attempt, event, tx.now))

    async def on_launch_refused(self, event: LaunchRefused, tx: Transaction) -> Sequence[Event]:
        job, attempt = await self._load(tx, event.job_id, event.attempt)
        step = decisions.decide_refused(job, attempt, event.message, tx.now, self.rules)
        return await self._save(tx, job, step)

    async def on_instance_launched(
        self, event: InstanceLaunched, tx: Transaction
    ) -> Sequence[Event]:
        job, attempt = await self._load(tx, event.job_id, event.attempt)
        launched = decisions.decide_launched(attempt, event, self.rules)
        return await self._save(tx, job, Step(job=job, attempts=(launched,)))

    async def on_instance_terminated(
        self, event: InstanceTerminated, tx: Transaction
    ) -> Sequence[Event]:
        if event.job_id is None or event.attempt is None:
            return ()  # an orphan that belonged to no job of ours
        job, attempt = await self._load(tx, event.job_id, event.attempt)
        step = decisions.decide_gone(job, attempt, event, tx.now, self.rules)
        if step is not None and job.attempt == attempt.number + 1:
            following = await store.load_attempt(tx.conn, job.id, job.attempt)
            if following is not None and following.state == "held":
                step = decisions.release(step, following, tx.now, self.rules)
        return await self._save(tx, job, step)

    async def _load(self, tx: Transaction, job_id: int, number: int) -> tuple[Job, Attempt]:
        job = await store.lock_job(tx, job_id)
        attempt = None if job is None else await store.load_attempt(tx.conn, job_id, number)
        if job is None or attempt is None:
            raise UnknownJob(f"there is no attempt {number} of job {job_id}")
        return job, attempt

    async def _save(self, tx: Transaction, job: Job, step: Step | None) -> Sequence[Event]:
        if step is None:
            return ()
        await store.save_step(tx, job, step)
        self.changed(job.id)
        return step.events
