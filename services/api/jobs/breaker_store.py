"""SQL of the circuit breaker of launching: one row, locked last of all in its transactions."""

from collections.abc import Sequence

import msgspec
from msgspec.structs import astuple

from services.api.jobs.breaker import (
    Breaker,
    FailedBoot,
    decide_answer,
    decide_claimed,
    decide_console,
    decide_failed,
    describe,
)
from services.api.jobs.model import Attempt, JobRules
from shared.log import get_logger
from shared.messaging.store import publish
from shared.postgres.pool import Connection, Database, Transaction, is_transient

_log = get_logger(service="api", part="boots")

LOAD_BREAKER = """
SELECT failures, job_ids, pauses, sequence, paused_at, paused_until, message, to_change, since,
    shared_from, shared_until
FROM launch_breaker
"""
LOCK_BREAKER = LOAD_BREAKER + " FOR UPDATE"


async def load_breaker(conn: Connection) -> Breaker:
    """Load the breaker."""
    return _breaker(await conn.fetchrow(LOAD_BREAKER))


async def paused(db: Database) -> str | None:
    """Return why launches are paused; None: they are not, or the database does not answer now."""
    try:
        async with db.connection() as conn:
            return describe(await load_breaker(conn), db.clock.now())
    except Exception as error:  # readiness reports that by itself
        if is_transient(error):
            return None
        raise


SAVE_BREAKER = """
INSERT INTO launch_breaker (failures, job_ids, pauses, sequence, paused_at, paused_until, message,
    to_change, since, shared_from, shared_until)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (only_row) DO UPDATE SET failures = excluded.failures, job_ids = excluded.job_ids,
    pauses = excluded.pauses, sequence = excluded.sequence, paused_at = excluded.paused_at,
    paused_until = excluded.paused_until, message = excluded.message,
    to_change = excluded.to_change, since = excluded.since,
    shared_from = excluded.shared_from, shared_until = excluded.shared_until
"""


async def count_failed(
    tx: Transaction, failed: Sequence[FailedBoot], rules: JobRules, jitter: float
) -> None:
    """Count *failed* boots; publish the pause that follows. Nothing else is locked after this."""
    if not failed:
        return
    last = failed[-1]
    _log.warning(
        "instances have not booted",
        jobs=sorted({each.job_id for each in failed})[:10],
        because=last.reason,
        to_change=last.to_change,
    )
    breaker = _breaker(await tx.conn.fetchrow(LOCK_BREAKER))
    counted, paused = decide_failed(breaker, failed, tx.now, jitter, rules)
    await tx.conn.execute(SAVE_BREAKER, *astuple(counted))
    if paused is not None:
        await publish(tx, [paused])
        _log.error(
            "launches are paused: instances do not boot",
            failures=paused.failures,
            until=paused.until,
            because=last.reason,
            to_change=paused.to_change,
        )


async def add_console(tx: Transaction, attempts: Sequence[Attempt], rules: JobRules) -> None:
    """Publish a pause again with the console of one of *attempts*, if it has none yet."""
    if not attempts or decide_console(await load_breaker(tx.conn), attempts, rules) is None:
        return
    decided = decide_console(_breaker(await tx.conn.fetchrow(LOCK_BREAKER)), attempts, rules)
    if decided is not None:
        breaker, event = decided
        await tx.conn.execute(SAVE_BREAKER, *astuple(breaker))
        await publish(tx, [event])


async def forget_failed(tx: Transaction) -> None:
    """Forget the failed boots, since an agent has claimed a job; publish the end of a pause.

    To be called if there are some: the row would be locked for each claim otherwise.
    """
    breaker = _breaker(await tx.conn.fetchrow(LOCK_BREAKER))
    if breaker.failures == 0:
        return
    closed, resumed = decide_claimed(breaker, tx.now)
    await tx.conn.execute(SAVE_BREAKER, *astuple(closed))
    if resumed is not None:
        await publish(tx, [resumed])
        _log.info("launches are resumed: an instance has booted", failures=breaker.failures)


async def answer_waiting(tx: Transaction, sequence: int) -> None:
    """Publish the end of pause *sequence* again, for which a launcher waits, if it is over."""
    if decide_answer(await load_breaker(tx.conn), sequence) is None:
        return
    answer = decide_answer(_breaker(await tx.conn.fetchrow(LOCK_BREAKER)), sequence)
    if answer is not None:
        resumed, event = answer
        await tx.conn.execute(SAVE_BREAKER, *astuple(resumed))
        await publish(tx, [event])
        _log.info("a launcher waited for a pause that is over", sequence=sequence)


def _breaker(row: object) -> Breaker:
    return Breaker() if row is None else msgspec.convert(dict(row), Breaker)  # type: ignore[call-overload]
