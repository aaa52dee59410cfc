"""Handlers of the other services' events: load under the jobs' locks, decide, save, publish."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.api.jobs import breaker, breaker_store, consoles, decisions, interruptions
from services.api.jobs.endings import decide_unconfirmed
from services.api.jobs.model import Attempt, JobRules, JobWithAttempts, Step
from services.api.jobs.retention_store import newest_removed
from services.api.jobs.store import Owner
from services.api.jobs.unit_of_work import UnitOfWork, open_unit_of_work
from shared.events.cloudevents import Envelope
from shared.events.events import (
    Event,
    InstanceInterrupted,
    InstanceLaunched,
    InstanceTerminated,
    InstanceUnconfirmed,
    LaunchDelayed,
    LaunchRefused,
)
from shared.log import get_logger
from shared.messaging.store import follow
from shared.messaging.subscriber import Handler
from shared.postgres.pool import Transaction

_log = get_logger(service="api", part="handlers")

Decide = Callable[[Any, UnitOfWork, datetime], Sequence[Event]]
"""From an event, the unit of work with all jobs of its batch, and the time to new events."""


class UnknownJob(Exception):
    """An event about an unknown job. It is parked, and a dead letter in the end, for operators."""


@dataclass(frozen=True)
class JobHandlers:
    """One method an event."""

    rules: JobRules
    jitter: Callable[[], float]

    def on(self, decide: Decide) -> Handler:
        """Make a handler that calls *decide* for each event of a batch, and saves once."""

        async def handle(events: Sequence[Envelope[Any]], tx: Transaction) -> list[Envelope[Any]]:
            # The end of an orphaned instance belongs to no job.
            ids = {each.body.job_id for each in events if each.body.job_id is not None}
            work = await open_unit_of_work(tx, ids)
            if any(isinstance(each.body, InstanceTerminated) for each in events):
                work.breaker = await breaker_store.load_breaker(tx.conn)
            removed = await _removed(tx, {each for each in ids if work.find(each) is None})
            facts = [
                follow(each, event, tx)
                for each in events
                if each.body.job_id not in removed
                for event in decide(each.body, work, tx.now)
            ]
            await work.save(tx, facts)
            await self._note_boots(tx, work, events, [each.body for each in facts])
            return []  # they are saved with the rows

        return handle

    async def _note_boots(
        self,
        tx: Transaction,
        work: UnitOfWork,
        events: Sequence[Envelope[Any]],
        published: Sequence[Event],
    ) -> None:
        """Keep the consoles of lost attempts, count failed boots, and answer paused launchers."""
        found: dict[Owner, str] = {}
        for fact in (each.body for each in events if isinstance(each.body, InstanceTerminated)):
            whole_job = None if fact.job_id is None else work.find(fact.job_id)
            if whole_job is not None and fact.attempt is not None and fact.console_output:
                console = consoles.console_of(fact, whole_job.attempt(fact.attempt))
                if console is not None:
                    found[Owner(whole_job.job.id, fact.attempt)] = console
        await consoles.keep_consoles(tx, found)
        changed = work.changed()
        failed = breaker.failed_boots(published, changed)
        await breaker_store.count_failed(tx, failed, self.rules, self.jitter())
        if found:
            without = [each for each in changed if each.boot_failed]
            await breaker_store.add_console(tx, without, self.rules)
        delayed = (each.body for each in events if isinstance(each.body, LaunchDelayed))
        pauses = [each.pause_sequence for each in delayed if each.pause_sequence is not None]
        if pauses:
            await breaker_store.answer_waiting(tx, max(pauses))

    def on_launch_delayed(
        self, event: LaunchDelayed, work: UnitOfWork, now: datetime
    ) -> Sequence[Event]:
        whole_job, attempt = _find(work, event.job_id, event.attempt)
        step = decisions.decide_delayed(whole_job.job, attempt, event, now)
        return self._take(work, step)

    def on_launch_refused(
        self, event: LaunchRefused, work: UnitOfWork, now: datetime
    ) -> Sequence[Event]:
        whole_job, attempt = _find(work, event.job_id, event.attempt)
        step = decisions.decide_refused(whole_job, attempt, event, now, self.jitter(), self.rules)
        return self._take(work, step)

    def on_instance_launched(
        self, event: InstanceLaunched, work: UnitOfWork, now: datetime
    ) -> Sequence[Event]:
        whole_job, attempt = _find(work, event.job_id, event.attempt)
        launched = decisions.decide_launched(attempt, event, self.rules, now)
        return self._take(work, Step(job=whole_job.job, attempts=(launched,)))

    def on_instance_interrupted(
        self, event: InstanceInterrupted, work: UnitOfWork, now: datetime
    ) -> Sequence[Event]:
        whole_job, attempt = _find(work, event.job_id, event.attempt)
        step = interruptions.decide_instance_interrupted(
            whole_job, attempt, event, now, self.jitter(), self.rules
        )
        return self._take(work, step)

    def on_instance_unconfirmed(
        self,
        event: InstanceUnconfirmed,
        work: UnitOfWork,
        now: datetime,  # noqa: ARG002 - as all
    ) -> Sequence[Event]:
        whole_job, attempt = _find(work, event.job_id, event.attempt)
        return self._take(work, decide_unconfirmed(whole_job, attempt, event))

    def on_instance_terminated(
        self, event: InstanceTerminated, work: UnitOfWork, now: datetime
    ) -> Sequence[Event]:
        if event.job_id is None or event.attempt is None:
            return ()  # an orphaned instance: it belonged to no job
        whole_job, attempt = _find(work, event.job_id, event.attempt)
        if attempt.state != "ended" and (excused := breaker.excuse(work.breaker, whole_job)):
            work.take(Step(job=whole_job.job, attempts=tuple(excused)))
            whole_job, attempt = _find(work, event.job_id, event.attempt)
        shared = breaker.is_shared(work.breaker, event.job_id, self.rules)
        step = decisions.decide_terminated(
            whole_job, attempt, event, now, self.jitter(), self.rules, shared=shared
        )
        if step is not None:
            failed = breaker.failed_boots(step.events, step.attempts)
            work.breaker = breaker.with_failed(
                work.breaker, (each.job_id for each in failed), self.rules
            )
        return self._take(work, step)

    def _take(self, work: UnitOfWork, step: Step | None) -> Sequence[Event]:
        if step is None:
            return ()
        work.take(step)
        return step.events


async def _removed(tx: Transaction, missing: set[int]) -> set[int]:
    """Return those of the *missing* jobs whose records were removed: what comes late is ignored."""
    if not missing:
        return set()
    newest = await newest_removed(tx.conn)
    removed = {each for each in missing if each <= newest}
    if removed:
        _log.info("events about removed jobs are ignored", jobs=sorted(removed)[:100])
    return removed


def _find(work: UnitOfWork, job_id: int, number: int) -> tuple[JobWithAttempts, Attempt]:
    whole_job = work.find(job_id)
    if whole_job is None or not any(each.number == number for each in whole_job.attempts):
        raise UnknownJob(f"there is no attempt {number} of job {job_id}")
    return whole_job, whole_job.attempt(number)
