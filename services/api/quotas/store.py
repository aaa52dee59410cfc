"""SQL of `reported_quotas`, the launcher's last report, and of the live jobs beside it."""

from collections.abc import Mapping

import msgspec

from shared.events.events import QuotasReported
from shared.postgres.pool import Connection, Transaction

_report = msgspec.json.Decoder(QuotasReported)

# Reports arrive in any order: a later one is never replaced by one before it.
SAVE_QUOTAS = """
INSERT INTO reported_quotas AS kept (sequence, report) VALUES ($1, $2)
ON CONFLICT (only_row) DO UPDATE SET sequence = excluded.sequence, report = excluded.report
WHERE kept.sequence < excluded.sequence
"""


async def save_quotas(tx: Transaction, report: QuotasReported) -> None:
    """Keep *report*, unless a later one is kept."""
    await tx.conn.execute(SAVE_QUOTAS, report.sequence, msgspec.json.encode(report))


LOAD_QUOTAS = "SELECT report FROM reported_quotas"


async def load_quotas(conn: Connection) -> QuotasReported | None:
    """Load the last report; None: there was none yet."""
    raw = await conn.fetchval(LOAD_QUOTAS)
    return None if raw is None else _report.decode(raw)


LIVE_JOBS_BY_KEY = """
SELECT created_by, count(*) AS jobs FROM jobs
WHERE status IN ('SCHEDULED', 'RUNNING') AND ($1::text IS NULL OR created_by = $1)
GROUP BY created_by
"""


async def live_jobs_by_key(conn: Connection, key: str | None) -> Mapping[str | None, int]:
    """Count the live jobs of *key*, or of each key (None: those of no key) if it is None."""
    rows = await conn.fetch(LIVE_JOBS_BY_KEY, key)
    return {row["created_by"]: row["jobs"] for row in rows}
