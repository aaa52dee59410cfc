"""Attempts for which nothing is reported that should be: a launch, or the end of an instance.

    scheduled ─ due ─ 2 min without a launch ─▶ JobScheduled again ─▶ … ─▶ a launch is reported
    held ────── due ─ 2 min without an end ───▶ AttemptEnded again, of the attempt before it
    ended ─ 5 min without its instance's end ─▶ AttemptEnded again

Whichever hop has lost its event, the next services repeat theirs: the scheduler its
InstanceRequested, the launcher what it knows of the launch, the reaper the end of an instance. An
attempt that merely waits in a long queue is asked for in vain, which changes nothing.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.api.jobs import overdue_store
from services.api.jobs.endings import job_scheduled
from services.api.jobs.model import Attempt, JobRules, JobWithAttempts
from services.api.jobs.overdue_store import NextAsk
from services.api.jobs.store import Owner
from services.api.jobs.unit_of_work import UnitOfWork, open_free
from shared.events import cloudevents
from shared.events.events import AttemptEnded, Event
from shared.log import get_logger
from shared.messaging.store import append_outbox
from shared.postgres.pool import Database, Transaction
from shared.repeats import PATIENCE, Listening, decide_listening, next_ask

ASKED = ("held", "scheduled", "requested", "delayed")
"""The states in which an attempt waits for the launcher, or, held, for the reaper."""

ASK_SECONDS = 15.0
"""The interval of the sweep."""

CONFIRMED_WITHIN = timedelta(minutes=5)
"""An instance is confirmed as terminated so soon after its attempt: EC2 takes a minute or two."""

KNOWN_FOR = timedelta(days=6)
"""How long after its end an instance is asked for: the reaper forgets it after seven days."""

BATCH = 500
"""Attempts asked for again in one transaction, at most."""

UNSENT_SECONDS = 10
"""An event of ours that is unsent for so long means that the broker is away."""

LOGGED = 100
"""The most attempts that one log line names."""

_log = get_logger(service="api", part="overdue")


def decide_event(whole_job: JobWithAttempts, attempt: Attempt, rules: JobRules) -> Event | None:
    """Return the event to publish again for *attempt*, as it was; None if it waits for none."""
    if attempt.state == "ended":
        return _ended_again(attempt)
    if attempt.state != "held":
        return job_scheduled(whole_job.job, attempt, rules)
    blocking = whole_job.unstopped_before(attempt.number)
    return None if blocking is None else _ended_again(blocking)


def _ended_again(attempt: Attempt) -> AttemptEnded | None:
    if attempt.ended_at is None or attempt.cause is None:
        return None
    return AttemptEnded(
        job_id=attempt.job_id,
        attempt=attempt.number,
        cause=attempt.cause,
        ended_at=attempt.ended_at,
        terminate_after=attempt.stop_by or attempt.ended_at,
    )


def overdue_since(attempt: Attempt) -> datetime:
    """Return since when *attempt* lacks its report.

    Its end, its due time, or the launcher's own next try.
    """
    if attempt.ended_at is not None:
        return attempt.ended_at
    return max(attempt.due_at, attempt.waiting_until or attempt.due_at)


def is_overdue(attempt: Attempt, now: datetime) -> bool:
    """Return whether nothing is reported of *attempt* that should be reported by now."""
    if attempt.ended_at is not None:
        unconfirmed = attempt.instance_id is not None and attempt.instance_gone_at is None
        return unconfirmed and now - attempt.ended_at >= CONFIRMED_WITHIN
    waits = attempt.state in ASKED and attempt.instance_id is None
    return waits and now - overdue_since(attempt) >= PATIENCE


@dataclass
class Overdue:
    """The sweep over overdue attempts. *ready* returns whether messages can flow now."""

    db: Database
    rules: JobRules
    ready: Callable[[], Awaitable[bool]]
    published: Callable[[], None]
    listening: Listening = field(default_factory=Listening)

    async def ask_again(self) -> datetime | None:
        """Publish again what attempts that are overdue without a launch wait for.

        Not while this process could not receive the launches either, or has just begun to.
        """
        flowing = await self.ready()
        now = self.db.clock.now()
        async with self.db.connection() as conn:
            unsent = await overdue_store.oldest_unsent(conn)
            recent = unsent is None or now - unsent < timedelta(seconds=UNSENT_SECONDS)
            self.listening = decide_listening(self.listening, now, receiving=flowing and recent)
            if not self.listening.patient_since(now - PATIENCE, now):
                return None
            found = await overdue_store.find_overdue(conn, now - PATIENCE, now, BATCH, ASKED)
            found += await overdue_store.find_unconfirmed(
                conn, now - KNOWN_FOR, now - CONFIRMED_WITHIN, now, BATCH
            )
        if not found:
            return None
        async with self.db.transaction() as tx:
            asked = await self._ask(tx, found)
        if asked:
            self.published()
            _log.warning(
                "attempts were asked for again: no launch, or no end of the instance, is reported",
                attempts=len(asked),
                first=[f"{each.job_id}/{each.attempt}" for each in asked[:LOGGED]],
            )
        return now if asked and len(found) >= BATCH else None

    async def _ask(self, tx: Transaction, found: list[Owner]) -> list[Owner]:
        """Publish again what is still overdue of *found*. A locked job waits for the next pass."""
        work = await open_free(tx, {each.job_id for each in found})
        overdue = {each: attempt for each in found if (attempt := _overdue(work, each, tx.now))}
        asks = [
            NextAsk(owner, next_ask(overdue_since(attempt), tx.now))
            for owner, attempt in overdue.items()
        ]
        marked = await overdue_store.mark_asked(tx, asks)
        asked = [each for each in overdue if each in marked]
        await append_outbox(
            tx,
            [
                cloudevents.wrap(event, source=tx.source, at=tx.now, trace=whole_job.job.trace)
                for owner in asked
                if (whole_job := work.find(owner.job_id))
                if (event := decide_event(whole_job, overdue[owner], self.rules))
            ],
        )
        return asked


def _overdue(work: UnitOfWork, owner: Owner, now: datetime) -> Attempt | None:
    """Return the attempt if it is overdue still, now that its job is locked."""
    whole_job = work.find(owner.job_id)
    if whole_job is None:
        return None
    attempt = whole_job.attempt(owner.attempt)
    return attempt if is_overdue(attempt, now) else None
