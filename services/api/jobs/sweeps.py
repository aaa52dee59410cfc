"""The sweep over jobs: end silent attempts.

It only suspects, so an agent that calls wins. A call that has arrived in this process is a sign of
life. One that waits in another process has written its heartbeat without the job's lock, and the
sweep locks the attempt's row before it reads it. While a call waits in this process, and if one
arrives before the commit, the sweep's decision is rolled back.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from msgspec.structs import replace

from services.api.jobs import availability_store, breaker, breaker_store, decisions, unit_of_work
from services.api.jobs import store as job_store
from services.api.jobs.availability import Outage, decide_outage, silent_since
from services.api.jobs.breaker import Breaker
from services.api.jobs.model import Attempt, JobRules, Step
from services.api.jobs.reception import Arrivals
from services.api.jobs.store import Owner
from shared.crash_points import Points
from shared.log import get_logger
from shared.postgres.pool import Database, Transaction, is_transient
from shared.runtime.passes import next_pass

_log = get_logger(service="api", part="sweeps")

BATCH = 100


class CalledMeanwhile(Exception):
    """The agent of an attempt that was to be ended has called meanwhile."""


@dataclass(frozen=True)
class Sweeps:
    """The API's sweeps over its own rows; they make no call outside the database."""

    db: Database
    rules: JobRules
    points: Points
    arrivals: Arrivals
    wake: Callable[..., None]
    jitter: Callable[[], float]

    async def end_silent(self) -> datetime | None:
        """End the attempts whose instance or agent has not reported for too long."""
        now = self.db.clock.now()
        async with self.db.connection() as conn:
            owners = await job_store.overdue(conn, now, BATCH)
        for owner in owners:
            try:
                await self._check(owner)
            except CalledMeanwhile:
                _log.info("an agent called at the last moment", job=owner.job_id)
            except Exception as error:  # one that cannot be checked must not block the others
                if is_transient(error):
                    raise
                _log.exception("cannot check attempt", job=owner.job_id)
        async with self.db.connection() as conn:
            next_due = await job_store.next_check(conn)
        return next_pass(now, full=len(owners) == BATCH, next_due=next_due)

    async def _check(self, owner: Owner) -> None:
        async with self.db.transaction() as tx:
            step = await self._decide(tx, owner)
        if step is not None and step.events:
            self.points.reached("api.silent_ended")
        self.wake(*tx.wakes)

    async def _decide(self, tx: Transaction, owner: Owner) -> Step | None:
        """Decide on an attempt, and save that. Raises `CalledMeanwhile`: roll back."""
        whole_job = await job_store.lock_whole_job(tx, owner.job_id)
        if whole_job is None:
            return None
        beaten_at = await availability_store.lock_heartbeat(tx, owner)
        loaded = whole_job.attempt(owner.attempt)
        arrived_at = self._arrived_at(loaded)
        attempt = replace(loaded, heartbeat_at=_latest(beaten_at, arrived_at))
        # Checked again under the lock: a heartbeat or a replica may have been faster.
        if attempt.check_at is None or attempt.check_at > tx.now:
            return None
        outages = await self._outages(tx, attempt)
        whole_job = whole_job.with_attempt(attempt)
        before, state = whole_job, await self._breaker(tx, attempt)
        excused = breaker.excuse(state, whole_job)
        for each in excused:
            whole_job = whole_job.with_attempt(each)
        step = decisions.decide_overdue(
            whole_job,
            attempt,
            tx.now,
            self.jitter(),
            self.rules,
            outages,
            shared=breaker.is_shared(state, owner.job_id, self.rules),
        )
        step = replace(step, attempts=(*excused, *step.attempts))
        await unit_of_work.save_and_publish(tx, before, step)
        if step.events and (self._is_waiting(loaded) or self._arrived_at(loaded) != arrived_at):
            raise CalledMeanwhile
        failed = breaker.failed_boots(step.events, step.attempts)
        await breaker_store.count_failed(tx, failed, self.rules, self.jitter())
        return step

    async def _breaker(self, tx: Transaction, attempt: Attempt) -> Breaker:
        """Load the breaker, if the end of *attempt* can be a failed boot."""
        if attempt.heartbeat_at is not None:
            return Breaker()
        return await breaker_store.load_breaker(tx.conn)

    def _is_waiting(self, attempt: Attempt) -> bool:
        return self.arrivals.is_waiting(attempt.token_hash, attempt.instance_id)

    def _arrived_at(self, attempt: Attempt) -> datetime | None:
        return self.arrivals.latest_of(attempt.token_hash, attempt.instance_id)

    async def _outages(self, tx: Transaction, attempt: Attempt) -> Sequence[Outage]:
        """Load the outages of the attempt's window, with the one that is not recorded yet."""
        # In this order: an outage recorded between the two is counted twice, never missed.
        availability = await availability_store.load_availability(tx.conn)
        recorded = await availability_store.load_outages(
            tx.conn, silent_since(attempt), of_claims=attempt.token_hash is None
        )
        latest = decide_outage(availability.answers(attempt), tx.now, self.rules)
        return recorded if latest is None else [*recorded, latest]


def _latest(*times: datetime | None) -> datetime | None:
    return max((each for each in times if each is not None), default=None)
