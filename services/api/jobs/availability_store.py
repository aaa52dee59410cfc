"""SQL of the API's availability: until when agents were answered, and the outages before that."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from services.api.jobs.answering import Availability, Liveness, Record
from services.api.jobs.availability import Outage
from services.api.jobs.store import Owner
from shared.postgres.pool import Connection, Transaction

# The locks of a report and a callback, on no row: no job has a negative id. It fails or waits as
# they do if the database is read-only or another session has locked these tables.
TOUCH_WHAT_REPORTS_WRITE = """
WITH of_jobs AS (UPDATE jobs SET attempt = attempt WHERE id = -1),
of_lines AS (DELETE FROM log_tails WHERE job_id = -1)
UPDATE attempts SET heartbeat_at = heartbeat_at WHERE job_id = -1 AND number = 0
"""


async def touch_what_reports_write(tx: Transaction) -> None:
    """Wait for what a report waits for. Raises what would fail it."""
    await tx.conn.execute(TOUCH_WHAT_REPORTS_WRITE)


LOAD_AVAILABILITY = "SELECT * FROM availability"
LOCK_AVAILABILITY = LOAD_AVAILABILITY + " FOR UPDATE"


async def lock_availability(tx: Transaction) -> Availability:
    """Load what the last record of any replica left, and lock it until the transaction's end."""
    return _availability(await tx.conn.fetchrow(LOCK_AVAILABILITY))


async def load_availability(conn: Connection) -> Availability:
    """Load what the last record of any replica left."""
    return _availability(await conn.fetchrow(LOAD_AVAILABILITY))


def _availability(row: object) -> Availability:
    return Availability() if row is None else msgspec.convert(dict(row), Availability)  # type: ignore[call-overload]


# Stops at the first that was received, which is nearly always the first of all.
IS_ANY_RECEIVED = """
SELECT EXISTS (SELECT FROM attempts WHERE check_at IS NOT NULL AND heartbeat_at > $1)
"""
LOAD_LIVENESS = """
SELECT count(*) AS attempts, max(heartbeat_at) AS received_at FROM attempts
WHERE check_at IS NOT NULL AND heartbeat_at IS NOT NULL
"""


async def load_liveness(conn: Connection, lately: datetime) -> Liveness:
    """Load how many live attempts have reported, and when; empty if one did lately."""
    if await conn.fetchval(IS_ANY_RECEIVED, lately):
        return Liveness()
    row = await conn.fetchrow(LOAD_LIVENESS)
    return msgspec.convert(dict(row or {}), Liveness)


SAVE_AVAILABILITY = """
INSERT INTO availability (answered_until, claims_answered_until, reports_failing_since,
    reports_failing_until, claims_failing_since, claims_failing_until)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (only_row) DO UPDATE SET answered_until = excluded.answered_until,
    claims_answered_until = excluded.claims_answered_until,
    reports_failing_since = excluded.reports_failing_since,
    reports_failing_until = excluded.reports_failing_until,
    claims_failing_since = excluded.claims_failing_since,
    claims_failing_until = excluded.claims_failing_until
"""
ADD_OUTAGE = """
INSERT INTO outages (began_at, ended_at, claims_only) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
"""


async def save_record(tx: Transaction, record: Record) -> None:
    """Save a record, and the outages that have just ended."""
    for outage, claims_only in ((record.outage, False), (record.claims_outage, True)):
        if outage is not None:
            await tx.conn.execute(ADD_OUTAGE, outage.began_at, outage.ended_at, claims_only)
    after = record.after
    await tx.conn.execute(
        SAVE_AVAILABILITY,
        after.answered_until,
        after.claims_answered_until,
        after.reports_failing_since,
        after.reports_failing_until,
        after.claims_failing_since,
        after.claims_failing_until,
    )


LOAD_OUTAGES = """
SELECT began_at, ended_at FROM outages WHERE ended_at > $1 AND (NOT claims_only OR $2)
ORDER BY ended_at
"""


async def load_outages(conn: Connection, since: datetime, *, of_claims: bool) -> Sequence[Outage]:
    """Load the outages that ended after *since*, in order; *of_claims*: also those of claims."""
    return [Outage(*row) for row in await conn.fetch(LOAD_OUTAGES, since, of_claims)]


# A heartbeat takes no lock on the job: this one orders it before or after the end of its attempt.
LOCK_HEARTBEAT = """
SELECT heartbeat_at FROM attempts WHERE job_id = $1 AND number = $2 FOR NO KEY UPDATE
"""


async def lock_heartbeat(tx: Transaction, owner: Owner) -> datetime | None:
    """Lock the attempt's row until the transaction's end; return its last heartbeat."""
    heartbeat_at: datetime | None = await tx.conn.fetchval(
        LOCK_HEARTBEAT, owner.job_id, owner.attempt
    )
    return heartbeat_at


PRUNE_OUTAGES = "DELETE FROM outages WHERE ended_at < $1"


async def prune_outages(conn: Connection, before: datetime) -> None:
    """Delete outages that are too old to matter to any attempt."""
    await conn.execute(PRUNE_OUTAGES, before)
