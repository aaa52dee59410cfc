"""SQL over launches; also when the next launch or batch is due, and pruning of both."""

import uuid
from collections.abc import Sequence
from datetime import datetime

import msgspec

from services.launcher.model import TRANSITIONS, Launch
from shared.events.cloudevents import Envelope
from shared.events.events import InstanceRequested
from shared.postgres.pool import Transaction, json_text
from shared.states import unsettled

# An existing launch came from the same event, or from one with the same content, or is the
# tombstone of its cancellation.
ADD_LAUNCHES = """
INSERT INTO launches (job_id, attempt, state, requirements, trace, due_at, wanted_at)
SELECT job_id, attempt, 'wanted', requirements::jsonb, trace, $5, $5
FROM unnest($1::bigint[], $2::integer[], $3::text[], $4::text[])
    AS new (job_id, attempt, requirements, trace)
ON CONFLICT DO NOTHING
"""


async def add_launches(tx: Transaction, requested: Sequence[Envelope[InstanceRequested]]) -> bool:
    """Add a launch for each attempt, wanted from now on, unless it has one.

    Return whether each was added.
    """
    result = await tx.conn.execute(
        ADD_LAUNCHES,
        [each.body.job_id for each in requested],
        [each.body.attempt for each in requested],
        [json_text(each.body.requirements) for each in requested],
        [each.trace for each in requested],
        tx.now,
    )
    return int(result.removeprefix("INSERT 0 ")) == len(requested)


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
WHERE launches.state = ANY ($4::text[])
"""


async def give_up(tx: Transaction, attempts: Sequence[tuple[int, int]]) -> None:
    """Cancel the launches that are not asked for yet; mark as unwanted those that are.

    *attempts* are job and attempt. An attempt without a launch gets a tombstone. Settled launches
    stay as they are.
    """
    await tx.conn.execute(
        GIVE_UP,
        [job_id for job_id, _ in attempts],
        [number for _, number in attempts],
        tx.now,
        unsettled(TRANSITIONS),
    )


# The time in a pause of launching, or held by a quota, does not count as waiting for capacity. A
# quota's reason is none of the cloud's, so the next of those is published.
LOCK_DUE = """
SELECT job_id, attempt, state, unwanted, requirements, trace, offer,
    wanted_at + coalesce($1 - paused_from, interval '0') AS wanted_at, queued_at, due_at,
    held_by, CASE WHEN held_by IS NULL THEN reason END AS reason, tries, delay_told_at, last_error,
    to_change
FROM launches
WHERE state = 'wanted' AND due_at <= $1
ORDER BY due_at LIMIT (SELECT $2::integer)
FOR UPDATE SKIP LOCKED
"""


async def lock_due(tx: Transaction, limit: int) -> list[Launch]:
    """Lock and return up to *limit* due launches, the longest due first."""
    rows = await tx.conn.fetch(LOCK_DUE, tx.now, limit)
    return [msgspec.convert(dict(row), Launch) for row in rows]


# By the key alone, here and below: the row is locked anyway, and with a condition on its state
# Postgres might look for the key among all rows of that state, or take them for so few that it
# scans all launches, and all keys for each. What a pause waits for, the launch does no longer.
LEASE_WANTED = """
UPDATE launches SET due_at = $3, lease_token = $4, paused_from = NULL, held_by = NULL,
    wanted_at = wanted_at + coalesce($5 - paused_from, interval '0'),
    to_change = CASE WHEN paused_from IS NULL THEN to_change END
FROM unnest($1::bigint[], $2::integer[]) AS new (job_id, attempt)
WHERE launches.job_id = new.job_id AND launches.attempt = new.attempt
"""


async def lease_wanted(
    tx: Transaction, launches: Sequence[Launch], until: datetime, token: uuid.UUID
) -> None:
    """Lease *launches* to the holder of *token* until *until*, while they are planned.

    This transaction has locked them.
    """
    keys = [each.job_id for each in launches], [each.attempt for each in launches]
    await tx.conn.execute(LEASE_WANTED, *keys, until, token, tx.now)


# Since the lease a launch may have been cancelled or leased again. A token holds the launches of
# many calls: each call locks only its own, so that no row is locked once per call. A launch that is
# not settled and has a token is wanted: the token is removed once it is asked for.
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
    """Lock those of *launches* that *token* still holds; return their jobs and attempts."""
    keys = [each.job_id for each in launches], [each.attempt for each in launches]
    return {
        (row["job_id"], row["attempt"])
        for row in await tx.conn.fetch(LOCK_WANTED, *keys)
        if row["lease_token"] == token and row["settled_at"] is None
    }


# The last call's token and parameters are kept, unless the launch is wanted again: the next offer
# gets its own.
SAVE_ANSWERS = """
UPDATE launches SET state = new.state, offer = new.offer,
    launch_token = CASE new.state WHEN 'wanted' THEN NULL ELSE launches.launch_token END,
    params = CASE new.state WHEN 'wanted' THEN NULL ELSE launches.params END,
    asked_at = CASE new.state WHEN 'wanted' THEN NULL ELSE launches.asked_at END,
    due_at = new.due_at, reason = new.reason,
    tries = new.tries, delay_told_at = new.delay_told_at, last_error = new.last_error,
    instance_id = new.instance_id, launched_at = new.launched_at, told = new.told,
    settled_at = new.settled_at, to_change = new.to_change, report = new.report::jsonb,
    lease_token = NULL
FROM unnest($1::bigint[], $2::integer[], $3::text[], $4::integer[], $5::timestamptz[], $6::text[],
    $7::integer[], $8::timestamptz[], $9::text[], $10::text[], $11::timestamptz[], $12::bigint[],
    $13::timestamptz[], $14::text[], $15::text[])
    AS new (job_id, attempt, state, offer, due_at, reason, tries, delay_told_at, last_error,
        instance_id, launched_at, told, settled_at, to_change, report)
WHERE launches.job_id = new.job_id AND launches.attempt = new.attempt
"""


async def save_answers(tx: Transaction, launches: Sequence[Launch]) -> None:
    """Save the new state of *launches*, which this transaction has locked."""
    fields = (
        *("job_id", "attempt", "state", "offer", "due_at", "reason", "tries", "delay_told_at"),
        *("last_error", "instance_id", "launched_at", "launch_sequence", "settled_at"),
        "to_change",
    )
    columns = [[getattr(each, field) for each in launches] for field in fields]
    reports = [None if each.report is None else json_text(each.report) for each in launches]
    await tx.conn.execute(SAVE_ANSWERS, *columns, reports)


NEXT_DUE = """
SELECT least(
    greatest((SELECT min(due_at) FROM launches WHERE state = 'wanted'), $1::timestamptz),
    (SELECT min(due_at) FROM batches WHERE due_at IS NOT NULL))
"""


async def next_due(tx: Transaction, held_until: datetime | None = None) -> datetime | None:
    """Return when the next launch or batch is due, or None if none waits.

    No launch is before *held_until*: launches are paused until then.
    """
    due_at: datetime | None = await tx.conn.fetchval(NEXT_DUE, held_until)
    return due_at


PRUNE_SETTLED = """
DELETE FROM launches WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM launches WHERE settled_at < $1 ORDER BY settled_at LIMIT $2
    FOR UPDATE SKIP LOCKED))
"""

# OFFSET 0 prevents a join, for which Postgres might read all launches.
PRUNE_BATCHES = """
DELETE FROM batches WHERE token = ANY (ARRAY(
    SELECT token FROM batches AS old WHERE settled_at < $1
        AND NOT EXISTS (SELECT FROM launches WHERE batch_token = old.token OFFSET 0)
    ORDER BY settled_at LIMIT $2))
"""


async def prune_settled(tx: Transaction, before: datetime, limit: int) -> bool:
    """Delete launches settled before *before*, and batches; return True if there may be more."""
    results = [await tx.conn.execute(sql, before, limit) for sql in (PRUNE_SETTLED, PRUNE_BATCHES)]
    return any(int(result.removeprefix("DELETE ")) >= limit for result in results)
