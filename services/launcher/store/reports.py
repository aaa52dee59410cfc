"""SQL over the last QuotasReported, in the one row of `quotas`."""

from datetime import datetime

from msgspec import Struct

from shared.postgres.pool import Connection, Transaction


class LastQuotaReport(Struct, frozen=True):
    """The last report; `sequence` is 0 before the first one."""

    sequence: int
    digest: bytes
    reported_at: datetime


LAST_REPORT = "SELECT sequence, digest, reported_at FROM quotas"


async def load_last_report(conn: Connection) -> LastQuotaReport:
    """Load it."""
    return LastQuotaReport(**dict(await conn.fetchrow(LAST_REPORT) or {}))


# The next number, or nothing: of two replicas one reports.
SAVE_REPORT = """
UPDATE quotas SET sequence = $1, digest = $2, reported_at = $3 WHERE sequence = $1 - 1
"""


async def save_report(tx: Transaction, new: LastQuotaReport) -> bool:
    """Record that *new* is published; return False if the one before is no longer the last."""
    done = await tx.conn.execute(SAVE_REPORT, new.sequence, new.digest, new.reported_at)
    return done.endswith(" 1")
