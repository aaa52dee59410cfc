"""SQL of the API's availability: until when it answered, and the outages before that."""

from collections.abc import Sequence
from datetime import datetime

from services.api.jobs.availability import Outage
from shared.postgres.pool import Connection, Transaction

LOCK_ANSWERED_UNTIL = "SELECT answered_until FROM availability FOR UPDATE"
LOAD_ANSWERED_UNTIL = "SELECT answered_until FROM availability"


async def lock_answered_until(tx: Transaction) -> datetime | None:
    """Load the time of the last record, and lock it until the transaction's end."""
    answered_until: datetime | None = await tx.conn.fetchval(LOCK_ANSWERED_UNTIL)
    return answered_until


async def load_answered_until(conn: Connection) -> datetime | None:
    """Load the time of the last record of any replica; None before the first one."""
    answered_until: datetime | None = await conn.fetchval(LOAD_ANSWERED_UNTIL)
    return answered_until


SAVE_ANSWERED_UNTIL = """
INSERT INTO availability (answered_until) VALUES ($1)
ON CONFLICT (only_row) DO UPDATE SET answered_until = excluded.answered_until
"""
ADD_OUTAGE = "INSERT INTO outages (began_at, ended_at) VALUES ($1, $2) ON CONFLICT DO NOTHING"


async def save_record(tx: Transaction, answered_until: datetime, outage: Outage | None) -> None:
    """Record that agents can be answered now, and the outage that has just ended."""
    if outage is not None:
        await tx.conn.execute(ADD_OUTAGE, outage.began_at, outage.ended_at)
    await tx.conn.execute(SAVE_ANSWERED_UNTIL, answered_until)


LOAD_OUTAGES = "SELECT began_at, ended_at FROM outages WHERE ended_at > $1 ORDER BY ended_at"


async def load_outages(conn: Connection, since: datetime) -> Sequence[Outage]:
    """Load the recorded outages that ended after *since*, in order."""
    return [Outage(*row) for row in await conn.fetch(LOAD_OUTAGES, since)]


PRUNE_OUTAGES = "DELETE FROM outages WHERE ended_at < $1"


async def prune_outages(conn: Connection, before: datetime) -> None:
    """Delete outages that are too old to matter to any attempt."""
    await conn.execute(PRUNE_OUTAGES, before)
