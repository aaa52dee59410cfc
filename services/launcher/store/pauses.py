"""SQL of the pause of launching, and of the launches that wait for its end."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from services.launcher.model import Launch
from services.launcher.pauses import Pause
from shared.postgres.pool import Transaction

# A wanted launch with a token is being planned until it is due, when its lease has ended.
LOAD_PAUSE = """
SELECT sequence, paused_until, message, trial_seconds, to_change, trial_until, coalesce(
    (SELECT state IN ('asked', 'launched') OR (lease_token IS NOT NULL AND due_at > $1)
        FROM launches WHERE job_id = trial_job AND attempt = trial_attempt), false) AS trial_open
FROM pauses
"""
LOCK_PAUSE = "SELECT sequence FROM pauses FOR UPDATE"


async def load_pause(tx: Transaction) -> Pause:
    """Load the pause."""
    row = await tx.conn.fetchrow(LOAD_PAUSE, tx.now)
    return Pause() if row is None else msgspec.convert(dict(row), Pause)


async def lock_pause(tx: Transaction) -> Pause:
    """Lock the pause until the transaction's end, so that one replica begins the trial; load it."""
    await tx.conn.execute(LOCK_PAUSE)
    return await load_pause(tx)


# The same time again is the same pause with more to show: its trial goes on.
SAVE_PAUSE = """
INSERT INTO pauses (sequence, paused_until, message, trial_seconds, to_change)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (only_row) DO UPDATE SET sequence = excluded.sequence,
    paused_until = excluded.paused_until, message = excluded.message,
    trial_seconds = excluded.trial_seconds, to_change = excluded.to_change,
    trial_job = CASE WHEN pauses.paused_until = excluded.paused_until THEN pauses.trial_job END,
    trial_attempt =
        CASE WHEN pauses.paused_until = excluded.paused_until THEN pauses.trial_attempt END,
    trial_until =
        CASE WHEN pauses.paused_until = excluded.paused_until THEN pauses.trial_until END
WHERE pauses.sequence < excluded.sequence
"""


async def save_pause(tx: Transaction, pause: Pause) -> None:
    """Record *pause*, unless a later one is known."""
    await tx.conn.execute(
        SAVE_PAUSE,
        pause.sequence,
        pause.paused_until,
        pause.message,
        pause.trial_seconds,
        pause.to_change,
    )


BEGIN_TRIAL = "UPDATE pauses SET trial_job = $1, trial_attempt = $2, trial_until = $3"


async def begin_trial(tx: Transaction, launch: Launch, until: datetime) -> None:
    """Record that *launch* is the trial, and until when no other is begun."""
    await tx.conn.execute(BEGIN_TRIAL, launch.job_id, launch.attempt, until)


# `ctid` of rows that are locked here: no other statement moves them meanwhile. Of
# one that a quota held the pause is shown now: a hold after it is another one.
HOLD_BACK = """
UPDATE launches SET paused_in = $2, paused_from = coalesce(paused_from, $1), delay_told_at = $1,
    held_by = NULL, reason = 'unknown_outcome', tries = 0, last_error = $3, to_change = $6
WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM launches
    WHERE state = 'wanted' AND due_at <= $1
        AND (paused_in IS DISTINCT FROM $2 OR delay_told_at < $4)
    ORDER BY due_at LIMIT (SELECT $5::integer)
    FOR UPDATE SKIP LOCKED))
RETURNING job_id, attempt, trace
"""


async def hold_back(
    tx: Transaction, pause: Pause, published_before: datetime, limit: int
) -> Sequence[tuple[int, int, str]]:
    """Mark due launches that wait for the end of *pause*; return job, attempt and trace of each.

    Only those whose delay was not published for this pause, or before *published_before*.
    """
    rows = await tx.conn.fetch(
        HOLD_BACK, tx.now, pause.sequence, pause.message, published_before, limit, pause.to_change
    )
    return [(row["job_id"], row["attempt"], row["trace"]) for row in rows]
