"""The unit of work of decisions about jobs: locked by two statements, saved by one."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec.structs import asdict, astuple

from services.api.jobs.breaker import Breaker
from services.api.jobs.changes import SOME_CHANGE, Shown, change_of, columns_of, of_job
from services.api.jobs.model import Attempt, Job, JobWithAttempts, Step
from services.api.jobs.store import as_attempt, as_job
from shared.events import cloudevents
from shared.events.cloudevents import Envelope
from shared.messaging import store as messages
from shared.postgres.pool import Transaction

_COLUMNS = ", ".join(Attempt.__struct_fields__)
# Heartbeats take no lock on the job: one that came since the attempt was loaded must not be undone.
# The same is true of a phase's detail, which ends with its phase. The counters of a log are written
# by `logs.keep_batches` alone.
_WRITTEN_ELSEWHERE = frozenset(
    {"job_id", "number", "heartbeat_at", "phase_detail", "log_seq"}
    | {"log_bytes", "log_lines", "log_head_bytes", "log_head_lines"}
)
_NEW_VALUES = ", ".join(
    f"{field} = excluded.{field}"
    for field in Attempt.__struct_fields__
    if field not in _WRITTEN_ELSEWHERE
)

# The row lock guards the transition, and so does a trigger. No other column of a job may change.
SAVE = f"""
WITH saved_jobs AS (
    UPDATE jobs SET status = new.status, attempt = new.attempt, exit_code = new.exit_code,
        error_message = new.error_message, finished_at = new.finished_at
    FROM unnest($1::bigint[], $2::text[], $3::integer[], $4::integer[], $5::text[],
                $6::timestamptz[])
        AS new (id, status, attempt, exit_code, error_message, finished_at)
    WHERE jobs.id = new.id
), saved_attempts AS (
    INSERT INTO attempts ({_COLUMNS})
    SELECT {_COLUMNS} FROM jsonb_populate_recordset(NULL::attempts, $7)
    ON CONFLICT (job_id, number) DO UPDATE SET {_NEW_VALUES},
        heartbeat_at = greatest(attempts.heartbeat_at, excluded.heartbeat_at),
        phase_detail = CASE WHEN attempts.state = excluded.state THEN attempts.phase_detail END
), wiped_secrets AS (
    DELETE FROM job_secrets WHERE job_id = ANY ($12::bigint[])
), saved_changes AS (
    INSERT INTO new_job_changes (job_id, at, status, attempt, phase, reason)
    SELECT job_id, $11, status, attempt, phase, reason
    FROM unnest($13::bigint[], $14::text[], $15::integer[], $16::text[], $17::text[])
        AS new (job_id, status, attempt, phase, reason)
)
INSERT INTO outbox (batch_id, name, body, created_at)
SELECT batch_id, name, body, $11
FROM unnest($8::uuid[], $9::text[], $10::bytea[]) AS new (batch_id, name, body)
"""  # noqa: S608 - the names of our own fields


async def _save(
    tx: Transaction,
    jobs: Sequence[Job],
    attempts: Collection[Attempt],
    facts: Sequence[Envelope[Any]] = (),
    wiped: Sequence[int] = (),
    changes: Sequence[tuple[int, Shown]] = (),
) -> None:
    await tx.conn.execute(
        SAVE,
        [job.id for job in jobs],
        [job.status for job in jobs],
        [job.attempt for job in jobs],
        [job.exit_code for job in jobs],
        [job.error_message for job in jobs],
        [job.finished_at for job in jobs],
        [_as_row(attempt) for attempt in attempts],
        *messages.columns(messages.pack(facts)),
        tx.now,
        wiped,
        *astuple(columns_of(changes)),
    )
    if facts:
        tx.wakes.add(messages.RELAY)
    if changes:
        tx.wakes.add(SOME_CHANGE)
    tx.wakes.update(of_job(job.id) for job in jobs)
    tx.wakes.update(of_job(attempt.job_id) for attempt in attempts)


def _as_row(attempt: Attempt) -> dict[str, Any]:
    """Render the columns as Postgres reads them from JSON; a column left out is NULL."""
    row = {name: value for name, value in asdict(attempt).items() if value is not None}
    if attempt.token_hash is not None:
        row["token_hash"] = f"\\x{attempt.token_hash.hex()}"
    return row


async def save_attempt(tx: Transaction, attempt: Attempt) -> None:
    """Insert or update an attempt."""
    await _save(tx, [], [attempt])


async def save_and_publish(tx: Transaction, before: JobWithAttempts, step: Step) -> None:
    """Write a decision of a request or a sweep, and its events under the job's own trace."""
    work = UnitOfWork({before.job.id: before})
    work.take(step)
    facts = [
        cloudevents.wrap(event, source=tx.source, at=tx.now, trace=before.job.trace)
        for event in step.events
    ]
    await work.save(tx, facts)


class UnitOfWork:
    """Locked jobs with all of their attempts, and the changes that decisions made since."""

    def __init__(self, cases: Mapping[int, JobWithAttempts], failed_boots: int = 0) -> None:
        """*failed_boots*: how many in a row have failed, when the jobs were locked."""
        self.failed_boots = failed_boots
        self.breaker = Breaker()
        """The breaker, where a decision needs it, with the failed boots of decisions so far."""
        self._before = cases
        self._cases = dict(cases)
        self._jobs: dict[int, Job] = {}
        self._attempts: dict[tuple[int, int], Attempt] = {}
        self._wiped: set[int] = set()

    def find(self, job_id: int) -> JobWithAttempts | None:
        """Return a job with its attempts, as changed so far."""
        return self._cases.get(job_id)

    def changed(self) -> list[Attempt]:
        """Return the attempts that decisions have changed."""
        return list(self._attempts.values())

    def take(self, step: Step) -> None:
        """Apply the changes of a decision."""
        whole_job = self._cases[step.job.id]
        if step.job != whole_job.job:
            self._jobs[step.job.id] = step.job
            whole_job = JobWithAttempts(step.job, whole_job.attempts)
        for each in step.attempts:
            self._attempts[each.job_id, each.number] = each
            whole_job = whole_job.with_attempt(each)
        if step.wipe_secrets:
            self._wiped.add(step.job.id)
        self._cases[step.job.id] = whole_job

    def note(self, attempt: Attempt) -> None:
        """Apply a change of *attempt* that another statement writes."""
        self._cases[attempt.job_id] = self._cases[attempt.job_id].with_attempt(attempt)

    async def save(self, tx: Transaction, facts: Sequence[Envelope[Any]] = ()) -> None:
        """Write the changes, and the events *facts*, with one statement."""
        if self._jobs or self._attempts or self._wiped or facts:
            jobs, attempts = list(self._jobs.values()), self._attempts.values()
            changes = self._changes(tx.now)
            await _save(tx, jobs, attempts, facts, list(self._wiped), changes)

    def _changes(self, now: datetime) -> list[tuple[int, Shown]]:
        touched = sorted(self._jobs.keys() | {job_id for job_id, _ in self._attempts})
        changes = ((each, self._change(each, now)) for each in touched)
        return [(job_id, change) for job_id, change in changes if change is not None]

    def _change(self, job_id: int, now: datetime) -> Shown | None:
        return change_of(self._before[job_id], self._cases[job_id], now)


# In the order of the ids, so that two batches never deadlock.
# With the failed boots in a row, so that a claim need not ask for them (nearly always: none).
LOCK_JOBS = """
SELECT jobs.*, (SELECT failures FROM launch_breaker) AS failed_boots
FROM jobs WHERE id = ANY ($1::bigint[]) ORDER BY id FOR UPDATE OF jobs"""
LOCK_FREE_JOBS = LOCK_JOBS + " SKIP LOCKED"
# A second statement: joined to the first, it would read the attempts as of before the lock.
LOAD_THEIR_ATTEMPTS = """
SELECT * FROM attempts WHERE job_id = ANY ($1::bigint[]) ORDER BY job_id, number
"""


async def open_unit_of_work(tx: Transaction, job_ids: Collection[int]) -> UnitOfWork:
    """Lock these jobs until the transaction's end, and load all of their attempts."""
    return await _open(tx, await tx.conn.fetch(LOCK_JOBS, list(job_ids)))


async def open_free(tx: Transaction, job_ids: Collection[int]) -> UnitOfWork:
    """Lock and load these jobs, except those that are locked now."""
    return await _open(tx, await tx.conn.fetch(LOCK_FREE_JOBS, list(job_ids)))


async def _open(tx: Transaction, rows: Sequence[Any]) -> UnitOfWork:
    jobs = [as_job(row) for row in rows]
    attempts: dict[int, list[Attempt]] = {job.id: [] for job in jobs}
    for row in await tx.conn.fetch(LOAD_THEIR_ATTEMPTS, list(attempts)):
        attempt = as_attempt(row)
        attempts[attempt.job_id].append(attempt)
    whole_jobs = {job.id: JobWithAttempts(job, tuple(attempts[job.id])) for job in jobs}
    return UnitOfWork(whole_jobs, max((row["failed_boots"] or 0 for row in rows), default=0))
