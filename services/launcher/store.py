"""All SQL of the launcher, each statement beside the one function that runs it."""

import uuid
from collections.abc import Sequence
from datetime import datetime

import msgspec

from services.launcher.model import Launch
from shared.consumer import Told
from shared.db import Transaction, json_text
from shared.events import InstanceRequested

# A launch that is there already came from the same event, or is the tombstone of its cancellation.
ADD_LAUNCHES = """
INSERT INTO launches (job_id, attempt, state, requirements, trace, due_at)
SELECT job_id, attempt, 'wanted', requirements::jsonb, trace, $5
FROM unnest($1::bigint[], $2::integer[], $3::text[], $4::text[])
    AS new (job_id, attempt, requirements, trace)
ON CONFLICT DO NOTHING
"""


async def add_launches(tx: Transaction, told: Sequence[Told[InstanceRequested]]) -> None:
    """Want an instance for each attempt, from now on, unless it is not wanted any more."""
    await tx.conn.execute(
        ADD_LAUNCHES,
        [each.event.job_id for each in told],
        [each.event.attempt for each in told],
        [json_text(each.event.requirements) for each in told],
        [each.trace for each in told],
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
SELECT job_id, attempt, state, unwanted, requirements, trace, offer, due_at, launch_token, params,
    asked_at, uncertain, reason, tries, delay_told_at, last_error
FROM launches
WHERE state IN ('wanted', 'asked') AND due_at <= $1
ORDER BY due_at LIMIT $2
FOR UPDATE SKIP LOCKED
"""


async def lock_due(tx: Transaction, limit: int) -> list[Launch]:
    """Up to *limit* due launches, the longest due first, locked until this transaction ends."""
    rows = await tx.conn.fetch(LOCK_DUE, tx.now, limit)
    return [msgspec.convert(dict(row), Launch) for row in rows]


SAVE_INTENTS = """
UPDATE launches SET state = 'asked', launch_token = new.launch_token, params = new.params,
    asked_at = new.asked_at, uncertain = new.uncertain, due_at = $7, lease_token = $8
FROM unnest($1::bigint[], $2::integer[], $3::text[], $4::jsonb[], $5::timestamptz[], $6::boolean[])
    AS new (job_id, attempt, launch_token, params, asked_at, uncertain)
WHERE launches.job_id = new.job_id AND launches.attempt = new.attempt
    AND launches.state IN ('wanted', 'asked')
"""


async def save_intents(
    tx: Transaction, intents: Sequence[Launch], until: datetime, token: uuid.UUID
) -> None:
    """Record what is about to be asked for, and lease it to the holder of *token* until *until*."""
    await tx.conn.execute(
        SAVE_INTENTS,
        [each.job_id for each in intents],
        [each.attempt for each in intents],
        [each.launch_token for each in intents],
        [each.params for each in intents],
        [each.asked_at for each in intents],
        [each.uncertain for each in intents],
        until,
        token,
    )


LOCK_LEASED = """
SELECT job_id, attempt, state, unwanted, requirements, trace, offer, due_at, launch_token, params,
    asked_at, uncertain, reason, tries, delay_told_at, last_error
FROM launches
WHERE lease_token = $1 AND state = 'asked'
ORDER BY job_id, attempt
FOR UPDATE
"""


async def lock_leased(tx: Transaction, token: uuid.UUID) -> list[Launch]:
    """Those that *token* still holds, as they are now, locked until this transaction ends."""
    rows = await tx.conn.fetch(LOCK_LEASED, token)
    return [msgspec.convert(dict(row), Launch) for row in rows]


SAVE_ANSWERS = """
UPDATE launches SET state = new.state, offer = new.offer, launch_token = new.launch_token,
    params = new.params, asked_at = new.asked_at, uncertain = new.uncertain, due_at = new.due_at,
    reason = new.reason, tries = new.tries, delay_told_at = new.delay_told_at,
    last_error = new.last_error, instance_id = new.instance_id, launched_at = new.launched_at,
    told = new.told, settled_at = new.settled_at, lease_token = NULL
FROM unnest($1::bigint[], $2::integer[], $3::text[], $4::integer[], $5::text[], $6::jsonb[],
    $7::timestamptz[], $8::boolean[], $9::timestamptz[], $10::text[], $11::integer[],
    $12::timestamptz[], $13::text[], $14::text[], $15::timestamptz[], $16::bigint[],
    $17::timestamptz[])
    AS new (job_id, attempt, state, offer, launch_token, params, asked_at, uncertain, due_at,
        reason, tries, delay_told_at, last_error, instance_id, launched_at, told, settled_at)
WHERE launches.job_id = new.job_id AND launches.attempt = new.attempt
    AND launches.state = 'asked' AND launches.lease_token = $18
"""


async def save_answers(tx: Transaction, launches: Sequence[Launch], token: uuid.UUID) -> None:
    """Record what has become of *launches*, which *token* holds, and give them back."""
    fields = (
        *("job_id", "attempt", "state", "offer", "launch_token", "params", "asked_at", "uncertain"),
        *("due_at", "reason", "tries", "delay_told_at", "last_error", "instance_id"),
        *("launched_at", "told", "settled_at"),
    )
    columns = [[getattr(each, field) for each in launches] for field in fields]
    await tx.conn.execute(SAVE_ANSWERS, *columns, token)


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


OLDEST_ASKED = "SELECT min(asked_at) FROM launches WHERE state = 'asked'"


async def oldest_asked(tx: Transaction) -> datetime | None:
    """When the oldest launch without a definite answer was first asked for."""
    asked_at: datetime | None = await tx.conn.fetchval(OLDEST_ASKED)
    return asked_at


NEXT_DUE = "SELECT min(due_at) FROM launches WHERE state IN ('wanted', 'asked')"


async def next_due(tx: Transaction) -> datetime | None:
    """When the next launch is due, or None where none waits."""
    due_at: datetime | None = await tx.conn.fetchval(NEXT_DUE)
    return due_at


PRUNE_SETTLED = """
DELETE FROM launches USING (
    SELECT job_id, attempt FROM launches WHERE settled_at < $1 ORDER BY settled_at LIMIT $2
    ) AS old
WHERE launches.job_id = old.job_id AND launches.attempt = old.attempt
"""


async def prune_settled(tx: Transaction, before: datetime, limit: int) -> bool:
    """Forget launches settled before *before*; True where there may be more."""
    result = await tx.conn.execute(PRUNE_SETTLED, before, limit)
    return int(result.removeprefix("DELETE ")) >= limit
