"""All SQL of the launcher, each statement beside the one function that runs it."""

import uuid
from collections.abc import Sequence
from datetime import datetime

import msgspec
from msgspec.structs import replace

from services.launcher.model import BatchRecord, Launch
from shared.events.cloudevents import Envelope
from shared.events.events import InstanceRequested
from shared.postgres.pool import Transaction, json_text

# A launch that is there already came from the same event, or is the tombstone of its cancellation.
ADD_LAUNCHES = """
INSERT INTO launches (job_id, attempt, state, requirements, trace, due_at, wanted_at)
SELECT job_id, attempt, 'wanted', requirements::jsonb, trace, $5, $5
FROM unnest($1::bigint[], $2::integer[], $3::text[], $4::text[])
    AS new (job_id, attempt, requirements, trace)
ON CONFLICT DO NOTHING
"""


async def add_launches(tx: Transaction, requested: Sequence[Envelope[InstanceRequested]]) -> None:
    """Want an instance for each attempt, from now on, unless it is not wanted any more."""
    await tx.conn.execute(
        ADD_LAUNCHES,
        [each.body.job_id for each in requested],
        [each.body.attempt for each in requested],
        [json_text(each.body.requirements) for each in requested],
        [each.trace for each in requested],
        tx.now,
    )


# Every expression sees the row as it was, so `state` in each CASE is the state before.
GIVE_UP = """
INSERT INTO launches (job_id, attempt, state, unwanted, settled_at)
SELECT DISTINCT job_id, attempt, 'cancelled', true, $3::timestamptz
FROM unnest($1::bigint[], $2::integer[]) AS new (job_id, attempt)
ORDER BY job_id, attempt
ON CONFLICT (job_id, attempt) DO UPDATE SET
    unwanted = true,
    state = CASE launches.state WHEN 'wanted' THEN 'cancelled' ELSE launches.state END,
    due_at = CASE launches.state WHEN 'wanted' THEN NULL ELSE launches.due_at END,
    settled_at = CASE launches.state WHEN 'wanted' THEN $3 ELSE launches.settled_at END
WHERE launches.state IN ('wanted', 'asked')
"""


async def give_up(tx: Transaction, attempts: Sequence[tuple[int, int]]) -> None:
    """Nobody wants these instances any more: cancel what was not asked for, mark what was.

    *attempts* are job and attempt. Where nothing is there yet, leave a tombstone. What is settled
    stays as it is.
    """
    await tx.conn.execute(
        GIVE_UP, [job_id for job_id, _ in attempts], [number for _, number in attempts], tx.now
    )


LOCK_DUE = """
SELECT job_id, attempt, state, unwanted, requirements, trace, offer, wanted_at, due_at, reason,
    tries, delay_told_at, last_error
FROM launches
WHERE state = 'wanted' AND due_at <= $1
ORDER BY due_at LIMIT (SELECT $2::integer)
FOR UPDATE SKIP LOCKED
"""


async def lock_due(tx: Transaction, limit: int) -> list[Launch]:
    """Up to *limit* due launches that nobody has asked for, the longest due first, locked."""
    rows = await tx.conn.fetch(LOCK_DUE, tx.now, limit)
    return [msgspec.convert(dict(row), Launch) for row in rows]


# By the key alone, here and below: named beside it, the state of a row that is locked anyway would
# let Postgres look for the key among all that is in that state, or take those in it for so few that
# it goes through all launches, and through all keys for each.
LEASE_WANTED = """
UPDATE launches SET due_at = $3, lease_token = $4
FROM unnest($1::bigint[], $2::integer[]) AS new (job_id, attempt)
WHERE launches.job_id = new.job_id AND launches.attempt = new.attempt
"""


async def lease_wanted(
    tx: Transaction, launches: Sequence[Launch], until: datetime, token: uuid.UUID
) -> None:
    """Keep *launches* for the holder of *token* until *until*, while a plan is made for them.

    This transaction has locked them.
    """
    keys = [each.job_id for each in launches], [each.attempt for each in launches]
    await tx.conn.execute(LEASE_WANTED, *keys, until, token)


# Since the lease a launch may have been cancelled or leased again. A token holds the launches of
# many calls: each call locks its own alone, so that no row is locked once for each of the calls.
# Who is not settled and bears a token is wanted: the token is taken away once it is asked for.
LOCK_WANTED = """
SELECT launches.job_id, launches.attempt, lease_token, settled_at
FROM launches JOIN unnest($1::bigint[], $2::integer[]) AS own (job_id, attempt)
    ON launches.job_id = own.job_id AND launches.attempt = own.attempt
ORDER BY launches.job_id, launches.attempt
FOR UPDATE OF launches
"""


async def lock_wanted(
    tx: Transaction, launches: Sequence[Launch], token: uuid.UUID
) -> set[tuple[int, int]]:
    """Job and attempt of those of *launches* that *token* still holds, locked."""
    keys = [each.job_id for each in launches], [each.attempt for each in launches]
    return {
        (row["job_id"], row["attempt"])
        for row in await tx.conn.fetch(LOCK_WANTED, *keys)
        if row["lease_token"] == token and row["settled_at"] is None
    }


ADD_BATCH = """
INSERT INTO batches (token, size, plan, plan_hash, asked_at, due_at, lease_token)
VALUES ($1, $2, $3, $4, $5, $6, $7)
"""

SAVE_INTENT = """
UPDATE launches SET state = 'asked', launch_token = new.launch_token, params = new.params,
    asked_at = $5, batch_token = $6, batch_place = new.place, due_at = $7, lease_token = NULL
FROM unnest($1::bigint[], $2::integer[], $3::text[], $4::jsonb[])
    WITH ORDINALITY AS new (job_id, attempt, launch_token, params, place)
WHERE launches.job_id = new.job_id AND launches.attempt = new.attempt
"""


async def save_intent(
    tx: Transaction, batch: BatchRecord, until: datetime, token: uuid.UUID
) -> None:
    """Record what is about to be asked for, and lease it to the holder of *token* until *until*.

    This transaction has locked the launches.
    """
    launches = batch.launches
    await tx.conn.execute(
        ADD_BATCH,
        batch.token,
        len(launches),
        batch.plan,
        batch.plan_hash,
        batch.asked_at,
        until,
        token,
    )
    await tx.conn.execute(
        SAVE_INTENT,
        [each.job_id for each in launches],
        [each.attempt for each in launches],
        [each.launch_token for each in launches],
        [each.params for each in launches],
        batch.asked_at,
        batch.token,
        until,
    )


# Whoever held it before may have called: whatever comes now comes after a possible effect.
CLAIM_BATCHES = """
UPDATE batches SET due_at = $2, lease_token = $3, repeated = true
WHERE token = ANY (ARRAY(
    SELECT token FROM batches WHERE due_at <= $1 ORDER BY due_at LIMIT (SELECT $4::integer)
    FOR UPDATE SKIP LOCKED))
RETURNING token, plan, plan_hash, asked_at, repeated
"""

LAUNCHES_OF = """
SELECT job_id, attempt, state, unwanted, requirements, trace, offer, wanted_at, due_at,
    launch_token, params, asked_at, batch_token, batch_place, reason, tries, delay_told_at,
    last_error
FROM launches
WHERE batch_token = ANY ($1::text[]) AND state = 'asked'
ORDER BY batch_token, batch_place
"""


async def claim_batches(
    tx: Transaction, until: datetime, token: uuid.UUID, limit: int
) -> list[BatchRecord]:
    """Lease up to *limit* batches that are to be asked again to the holder of *token*."""
    rows = await tx.conn.fetch(CLAIM_BATCHES, tx.now, until, token, limit)
    batches = [msgspec.convert(dict(row), BatchRecord) for row in rows]
    if not batches:
        return []
    launches: dict[str | None, list[Launch]] = {}
    for row in await tx.conn.fetch(LAUNCHES_OF, [each.token for each in batches]):
        launch = msgspec.convert(dict(row), Launch)
        launches.setdefault(launch.batch_token, []).append(launch)
    return [replace(each, launches=tuple(launches.get(each.token, ()))) for each in batches]


# Who has definite answers alone is held by nobody: see `CLOSE_BATCH`.
HOLD_BATCH = "SELECT token FROM batches WHERE token = $1 AND lease_token = $2 FOR UPDATE"

LOCK_ASKED = """
SELECT job_id, attempt, unwanted FROM launches WHERE batch_token = $1 AND state = 'asked'
ORDER BY job_id, attempt
FOR UPDATE
"""


async def lock_batch(tx: Transaction, batch: BatchRecord, token: uuid.UUID) -> list[Launch]:
    """The launches of *batch* without an answer, locked; none where *token* holds it no more.

    Of what is asked for, whoever does not hold the batch changes `unwanted` alone.
    """
    if await tx.conn.fetchval(HOLD_BATCH, batch.token, token) is None:
        return []
    rows = await tx.conn.fetch(LOCK_ASKED, batch.token)
    unwanted = {(row["job_id"], row["attempt"]): row["unwanted"] for row in rows}
    return [
        replace(each, unwanted=unwanted[each.key])
        for each in batch.launches
        if each.key in unwanted
    ]


# The last call's token and parameters are kept, unless the launch is wanted again: the next offer
# has its own.
SAVE_ANSWERS = """
UPDATE launches SET state = new.state, offer = new.offer,
    launch_token = CASE new.state WHEN 'wanted' THEN NULL ELSE launches.launch_token END,
    params = CASE new.state WHEN 'wanted' THEN NULL ELSE launches.params END,
    asked_at = CASE new.state WHEN 'wanted' THEN NULL ELSE launches.asked_at END,
    due_at = new.due_at, reason = new.reason,
    tries = new.tries, delay_told_at = new.delay_told_at, last_error = new.last_error,
    instance_id = new.instance_id, launched_at = new.launched_at, told = new.told,
    settled_at = new.settled_at, lease_token = NULL
FROM unnest($1::bigint[], $2::integer[], $3::text[], $4::integer[], $5::timestamptz[], $6::text[],
    $7::integer[], $8::timestamptz[], $9::text[], $10::text[], $11::timestamptz[], $12::bigint[],
    $13::timestamptz[])
    AS new (job_id, attempt, state, offer, due_at, reason, tries, delay_told_at, last_error,
        instance_id, launched_at, told, settled_at)
WHERE launches.job_id = new.job_id AND launches.attempt = new.attempt
"""


async def save_answers(tx: Transaction, launches: Sequence[Launch]) -> None:
    """Record what has become of *launches*, which this transaction has locked."""
    fields = (
        *("job_id", "attempt", "state", "offer", "due_at", "reason", "tries", "delay_told_at"),
        *("last_error", "instance_id", "launched_at", "told", "settled_at"),
    )
    columns = [[getattr(each, field) for each in launches] for field in fields]
    await tx.conn.execute(SAVE_ANSWERS, *columns)


CLOSE_BATCH = """
UPDATE batches SET due_at = $2::timestamptz, lease_token = NULL,
    settled_at = CASE WHEN $2::timestamptz IS NULL THEN $3::timestamptz END
WHERE token = $1
"""


async def give_back_batch(tx: Transaction, batch: str, due_at: datetime | None) -> None:
    """Ask for *batch* again at *due_at*; None: each of its launches has a definite answer."""
    await tx.conn.execute(CLOSE_BATCH, batch, due_at, tx.now)


COUNT_TELLINGS = "UPDATE tellings SET told = told + $1 RETURNING told"


async def count_tellings(tx: Transaction, more: int) -> int:
    """Number *more* tellings: returns the last number. Holds the counter until the commit."""
    told: int = await tx.conn.fetchval(COUNT_TELLINGS, more)
    return told


HOLD_TELLINGS = "SELECT told FROM tellings FOR SHARE"


async def hold_tellings(tx: Transaction) -> int:
    """How many were told, with every telling that has a number committed, and none until we are."""
    told: int = await tx.conn.fetchval(HOLD_TELLINGS)
    return told


OLDEST_ASKED = "SELECT min(asked_at) FROM batches WHERE settled_at IS NULL"


async def oldest_asked(tx: Transaction) -> datetime | None:
    """When the oldest batch without a definite answer was first asked for."""
    asked_at: datetime | None = await tx.conn.fetchval(OLDEST_ASKED)
    return asked_at


NEXT_DUE = """
SELECT least(
    (SELECT min(due_at) FROM launches WHERE state = 'wanted'),
    (SELECT min(due_at) FROM batches WHERE due_at IS NOT NULL))
"""


async def next_due(tx: Transaction) -> datetime | None:
    """When the next launch or batch is due, or None where none waits."""
    due_at: datetime | None = await tx.conn.fetchval(NEXT_DUE)
    return due_at


PRUNE_SETTLED = """
DELETE FROM launches WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM launches WHERE settled_at < $1 ORDER BY settled_at LIMIT $2
    FOR UPDATE SKIP LOCKED))
"""

# OFFSET 0 keeps Postgres from joining, which it may do by reading all launches.
PRUNE_BATCHES = """
DELETE FROM batches WHERE token = ANY (ARRAY(
    SELECT token FROM batches AS old WHERE settled_at < $1
        AND NOT EXISTS (SELECT FROM launches WHERE batch_token = old.token OFFSET 0)
    ORDER BY settled_at LIMIT $2))
"""


async def prune_settled(tx: Transaction, before: datetime, limit: int) -> bool:
    """Forget launches settled before *before*, and batches; True where there may be more."""
    results = [await tx.conn.execute(sql, before, limit) for sql in (PRUNE_SETTLED, PRUNE_BATCHES)]
    return any(int(result.removeprefix("DELETE ")) >= limit for result in results)
