"""What the API makes of the others' facts: load under the job's lock, decide, save, tell."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.api import decisions
from services.api.model import Attempt, Case, Job, Rules, Step
from services.api.store import jobs as store
from shared.db import Transaction
from shared.events import (
    Event,
    InstanceInterrupted,
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
    jitter: Callable[[], float]

    async def on_instance_requested(
        self, event: InstanceRequested, tx: Transaction
    ) -> Sequence[Event]:
        case, attempt = await self._load(tx, event.job_id, event.attempt)
        step = decisions.decide_requested(case.job, attempt, tx.now)
        return await self._save(tx, case.job, step)

    async def on_launch_delayed(self, event: LaunchDelayed, tx: Transaction) -> Sequence[Event]:
        case, attempt = await self._load(tx, event.job_id, event.attempt)
        step = decisions.decide_delayed(case.job, attempt, event, tx.now)
        return await self._save(tx, case.job, step)

    async def on_launch_refused(self, event: LaunchRefused, tx: Transaction) -> Sequence[Event]:
        case, attempt = await self._load(tx, event.job_id, event.attempt)
        step = decisions.decide_refused(case, attempt, event, tx.now, self.jitter(), self.rules)
        return await self._save(tx, case.job, step)

    async def on_instance_launched(
        self, event: InstanceLaunched, tx: Transaction
    ) -> Sequence[Event]:
        case, attempt = await self._load(tx, event.job_id, event.attempt)
        launched = decisions.decide_launched(attempt, event, self.rules)
        return await self._save(tx, case.job, Step(job=case.job, attempts=(launched,)))

    async def on_instance_interrupted(
        self, event: InstanceInterrupted, tx: Transaction
    ) -> Sequence[Event]:
        case, attempt = await self._load(tx, event.job_id, event.attempt)
        step = decisions.decide_told_interrupted(
            case, attempt, event, tx.now, self.jitter(), self.rules
        )
        return await self._save(tx, case.job, step)

    async def on_instance_terminated(
        self, event: InstanceTerminated, tx: Transaction
    ) -> Sequence[Event]:
        if event.job_id is None or event.attempt is None:
            return ()  # an orphan that belonged to no job of ours
        case, attempt = await self._load(tx, event.job_id, event.attempt)
        step = decisions.decide_gone(case, attempt, event, tx.now, self.jitter(), self.rules)
        return await self._save(tx, case.job, step)

    async def _load(self, tx: Transaction, job_id: int, number: int) -> tuple[Case, Attempt]:
        case = await store.lock_case(tx, job_id)
        if case is None or not any(each.number == number for each in case.attempts):
            raise UnknownJob(f"there is no attempt {number} of job {job_id}")
        return case, case.attempt(number)

    async def _save(self, tx: Transaction, job: Job, step: Step | None) -> Sequence[Event]:
        if step is None:
            return ()
        await store.save_step(tx, job, step)
        self.changed(job.id)
        return step.events
