"""SQL of `jobs` and `attempts`: accept, and load under lock; `unit_of_work` saves."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from services.api.audit.acts import Action, Actor
from services.api.audit.store import columns_of
from services.api.jobs.changes import shown
from services.api.jobs.columns import COLUMNS
from services.api.jobs.model import Attempt, Job, JobWithAttempts
from services.api.secrets.sealing import Sealed
from shared.events.cloudevents import Envelope
from shared.events.requirements import Resources
from shared.messaging import store as messages
from shared.postgres.pool import Connection, Transaction, json_text

NEXT_JOB_IDS = "SELECT nextval('jobs_id_seq') FROM generate_series(1, $1::integer)"


async def next_job_ids(conn: Connection, count: int) -> list[int]:
    """Draw ids for *count* new jobs, in ascending order."""
    return sorted(row[0] for row in await conn.fetch(NEXT_JOB_IDS, count))


_FIRST_GIVEN = 20
_NAMES = ", ".join(column.quoted for column in COLUMNS)
_VALUES = ", ".join(column.value for column in COLUMNS)
_PARAMETERS = ", ".join(
    column.parameter(number) for number, column in enumerate(COLUMNS, start=_FIRST_GIVEN)
)
# One statement, and so one transaction and one round trip, for job, attempt and event.
ACCEPT_JOBS = f"""
WITH new_jobs AS (
    INSERT INTO jobs (id, status, attempt, trace, created_at, {_NAMES})
    SELECT id, 'SCHEDULED', 1, trace, created_at, {_VALUES}
    FROM unnest($1::bigint[], $2::text[], $3::timestamptz[], {_PARAMETERS})
        AS new (id, trace, created_at, {_NAMES})
), new_secrets AS (
    INSERT INTO job_secrets (job_id, key_id, sealed)
    SELECT job_id, key_id, sealed
    FROM unnest($9::bigint[], $10::text[], $11::bytea[]) AS new (job_id, key_id, sealed)
), new_attempts AS (
    INSERT INTO attempts (job_id, number, state, due_at, entered)
    SELECT job_id, 1, 'scheduled', due_at, entered::jsonb
    FROM unnest($1::bigint[], $4::timestamptz[], $5::text[]) AS new (job_id, due_at, entered)
), new_changes AS (
    INSERT INTO new_job_changes (job_id, at, status, attempt, phase, reason)
    SELECT job_id, $12, 'SCHEDULED', 1, phase, reason
    FROM unnest($1::bigint[], $13::text[], $14::text[]) AS new (job_id, phase, reason)
), new_acts AS (
    INSERT INTO audit (at, job_id, action, key, key_name, project, address)
    SELECT $12, job_id, action, key, key_name, project, address
    FROM unnest($1::bigint[], $15::text[], $16::text[], $17::text[], $18::text[], $19::text[])
        AS new (job_id, action, key, key_name, project, address)
)
INSERT INTO outbox (batch_id, name, body, created_at)
SELECT batch_id, name, body, $12
FROM unnest($6::uuid[], $7::text[], $8::bytea[]) AS new (batch_id, name, body)
"""  # noqa: S608 - our own columns


async def accept_jobs(
    conn: Connection,
    jobs: Sequence[Job],
    attempts: Sequence[Attempt],
    facts: Sequence[Envelope[Any]],
    secrets: Mapping[int, Sealed],
    acts: Sequence[tuple[Actor, Action]],
) -> None:
    """Insert new jobs, each with its first attempt, its first change, its JobScheduled and its act.

    *secrets*: the sealed values by the id of their job. *acts*: who schedules each.
    """
    changes = [
        shown(job, attempt, job.created_at) for job, attempt in zip(jobs, attempts, strict=True)
    ]
    await conn.execute(
        ACCEPT_JOBS,
        [job.id for job in jobs],
        [job.trace for job in jobs],
        [job.created_at for job in jobs],
        [attempt.due_at for attempt in attempts],
        [json_text(attempt.entered) for attempt in attempts],
        *messages.columns(messages.pack(facts)),
        list(secrets),
        [each.key_id for each in secrets.values()],
        [each.content for each in secrets.values()],
        jobs[0].created_at,
        [each.phase for each in changes],
        [each.reason for each in changes],
        *columns_of(acts),
        *(column.values(jobs) for column in COLUMNS),
    )


LOCK_JOB = "SELECT * FROM jobs WHERE id = $1 FOR UPDATE"
LOAD_JOB = "SELECT * FROM jobs WHERE id = $1"


async def lock_job(tx: Transaction, job_id: int) -> Job | None:
    """Load the job, locked until the transaction's end: each decision about a job needs it."""
    row = await tx.conn.fetchrow(LOCK_JOB, job_id)
    return None if row is None else as_job(row)


async def load_job(conn: Connection, job_id: int) -> Job | None:
    """Load the job."""
    row = await conn.fetchrow(LOAD_JOB, job_id)
    return None if row is None else as_job(row)


LOAD_ATTEMPT = "SELECT * FROM attempts WHERE job_id = $1 AND number = $2"


async def load_attempt(conn: Connection, job_id: int, number: int) -> Attempt | None:
    """Load one attempt of a job."""
    row = await conn.fetchrow(LOAD_ATTEMPT, job_id, number)
    return None if row is None else as_attempt(row)


LOAD_ATTEMPTS = "SELECT * FROM attempts WHERE job_id = $1 ORDER BY number"


async def load_attempts(conn: Connection, job_id: int) -> list[Attempt]:
    """Load the attempts of a job in the order of their numbers."""
    return [as_attempt(row) for row in await conn.fetch(LOAD_ATTEMPTS, job_id)]


async def lock_whole_job(tx: Transaction, job_id: int) -> JobWithAttempts | None:
    """Load the job, locked as by `lock_job`, with all of its attempts."""
    job = await lock_job(tx, job_id)
    if job is None:
        return None
    return JobWithAttempts(job, tuple(await load_attempts(tx.conn, job_id)))


# One statement reads one snapshot: read apart, a job and its attempts may contradict each other.
LOAD_WHOLE = """
SELECT j.*, (SELECT jsonb_agg(to_jsonb(a) - 'token_hash' ORDER BY a.number)
             FROM attempts a WHERE a.job_id = j.id) AS attempts
FROM jobs j WHERE j.id = $1
"""


async def load_whole_job(conn: Connection, job_id: int) -> tuple[Job, list[Attempt]] | None:
    """Load the job with all of its attempts in the order of their numbers, in one snapshot."""
    row = await conn.fetchrow(LOAD_WHOLE, job_id)
    if row is None:
        return None
    columns = dict(row)
    attempts = [as_attempt(each) for each in columns.pop("attempts")]
    return as_job(columns), attempts


class Owner(Struct, frozen=True):
    """The attempt that a token or an instance belongs to."""

    job_id: int
    attempt: int


# A token stays valid for a while after its attempt's end, for agents that repeat a call whose
# response was lost.
_GOOD = """$2::timestamptz < interval '1 hour' + coalesce(ended_at, dies_by,
    (entered ->> 'booting')::timestamptz + $3::integer * interval '1 second', $2)"""

FIND_BEARERS = f"""
SELECT token_hash, job_id, number, {_GOOD} AS good FROM attempts
WHERE token_hash = ANY ($1::bytea[])
"""  # noqa: S608 - our own condition


class Bearer(Struct, frozen=True):
    """The owner of a token, and whether the token is still valid.

    It expires an hour after its attempt's end, which is at the latest when its instance must be
    terminated; before that time is known, when an instance's maximum lifetime has passed.
    """

    owner: Owner
    good: bool


async def find_bearers(
    conn: Connection, token_hashes: Collection[bytes], now: datetime, lifetime_seconds: int
) -> dict[bytes, Bearer]:
    """Find the owners of those *token_hashes* that belong to an attempt."""
    rows = await conn.fetch(FIND_BEARERS, list(token_hashes), now, lifetime_seconds)
    return {
        row["token_hash"]: Bearer(Owner(row["job_id"], row["number"]), row["good"]) for row in rows
    }


# No column of an index changes, so the row is updated in place.
BEAT = """
UPDATE attempts SET heartbeat_at = $3, phase_detail = coalesce($4, phase_detail)
WHERE job_id = $1 AND number = $2 AND state <> 'ended'
"""


async def beat(tx: Transaction, owner: Owner, detail: str | None) -> bool:
    """Record a heartbeat, and the phase's new detail; return False if the attempt has ended."""
    done = await tx.conn.execute(BEAT, owner.job_id, owner.attempt, tx.now, detail)
    return bool(done == "UPDATE 1")


# Without a condition on `state`: the planner would take it for rare, and read all attempts.
BEAT_LOCKED = """
UPDATE attempts SET heartbeat_at = greatest(heartbeat_at, $3),
    phase_detail = coalesce(detail, phase_detail)
FROM unnest($1::bigint[], $2::integer[], $4::text[]) AS alive (job, attempt, detail)
WHERE job_id = job AND number = attempt
"""


async def beat_locked(tx: Transaction, beats: Mapping[Owner, str | None]) -> None:
    """Record heartbeats of attempts that have not ended, and whose jobs *tx* has locked.

    *beats* has the new detail of the attempt's phase, None if it has not changed.
    """
    if beats:
        jobs, numbers = [each.job_id for each in beats], [each.attempt for each in beats]
        await tx.conn.execute(BEAT_LOCKED, jobs, numbers, tx.now, list(beats.values()))


# Skips locked rows: a decision about an attempt locks its row until the end of a transaction. By
# ctid, since the planner might otherwise walk all attempts to find those that were locked.
BEAT_FREE = f"""
UPDATE attempts SET heartbeat_at = $2,
    phase_detail = coalesce(($5::text[])[array_position($1::bytea[], token_hash)], phase_detail)
WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM attempts
    WHERE token_hash = ANY ($1::bytea[]) AND state <> 'ended'
        AND job_id = ($4::bigint[])[array_position($1::bytea[], token_hash)] AND {_GOOD}
    FOR NO KEY UPDATE SKIP LOCKED
))
RETURNING token_hash, job_id
"""  # noqa: S608 - our own condition


class Beat(Struct, frozen=True):
    """A heartbeat with a token, for the job that its path names.

    *detail* is the new detail of the attempt's phase, None if it has not changed.
    """

    token_hash: bytes
    job_id: int
    detail: str | None = None


async def beat_free(
    conn: Connection, beats: Sequence[Beat], now: datetime, lifetime_seconds: int
) -> set[tuple[bytes, int]]:
    """Record many heartbeats; return the token and the job of those that were recorded.

    The others' attempts have ended or are locked, or the token is not valid for that job.
    """
    hashes, jobs = [each.token_hash for each in beats], [each.job_id for each in beats]
    details = [each.detail for each in beats]
    rows = await conn.fetch(BEAT_FREE, hashes, now, lifetime_seconds, jobs, details)
    return {(row["token_hash"], row["job_id"]) for row in rows}


OVERDUE = """
SELECT job_id, number FROM attempts WHERE check_at <= $1 ORDER BY check_at
LIMIT (SELECT $2::integer)
"""
NEXT_CHECK = "SELECT min(check_at) FROM attempts WHERE check_at IS NOT NULL"


async def overdue(conn: Connection, now: datetime, limit: int) -> list[Owner]:
    """Find the attempts whose `check_at` has passed, the longest overdue first."""
    rows = await conn.fetch(OVERDUE, now, limit)
    return [Owner(row["job_id"], row["number"]) for row in rows]


async def next_check(conn: Connection) -> datetime | None:
    """Find the time at which the next attempt must be checked."""
    check_at: datetime | None = await conn.fetchval(NEXT_CHECK)
    return check_at


def as_job(row: Any) -> Job:
    """Convert a row of `jobs`, unchecked: it may be of a release with other limits."""
    values = {name: row[name] for name in Job.__struct_fields__}
    return Job(**values | {"resources": msgspec.convert(values["resources"], Resources)})


def as_attempt(row: Any) -> Attempt:
    """Convert a row of `attempts`; times inside jsonb become datetimes again."""
    return msgspec.convert(dict(row), Attempt)
