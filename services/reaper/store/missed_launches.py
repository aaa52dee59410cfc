"""SQL over launch reports that have not come: since when, and which numbers."""

from collections.abc import Sequence

import msgspec

from services.reaper.model import LaunchGap
from shared.events.events import LaunchesMissed
from shared.postgres.pool import Transaction

LOAD_GAP = "SELECT first, through, since, ask_again_at, alert_at FROM missed_launches"


async def load_gap(tx: Transaction) -> LaunchGap | None:
    """Load the gap as of the last pass. The watermark's row, which *tx* has locked, guards it."""
    row = await tx.conn.fetchrow(LOAD_GAP)
    return None if row is None else msgspec.convert(dict(row), LaunchGap)


SAVE_GAP = """
INSERT INTO missed_launches (first, through, since, ask_again_at, alert_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (only_row) DO UPDATE SET first = excluded.first, through = excluded.through,
    since = excluded.since, ask_again_at = excluded.ask_again_at, alert_at = excluded.alert_at
"""
CLEAR_GAP = "DELETE FROM missed_launches"


async def save_gap(tx: Transaction, gap: LaunchGap | None) -> None:
    """Save the gap as of this pass; None: there is none."""
    if gap is None:
        await tx.conn.execute(CLEAR_GAP)
        return
    await tx.conn.execute(
        SAVE_GAP, gap.first, gap.through, gap.since, gap.ask_again_at, gap.alert_at
    )


# The runs between the numbers received, then the one behind the last of them. Bounded by the
# watermark's count: a higher number may be on its way.
MISSING_RUNS = """
SELECT first, last FROM (
    SELECT 1 + lag(received.told, 1, watermark.heard_through) OVER (ORDER BY received.told)
        AS first, received.told - 1 AS last
    FROM heard_tellings AS received CROSS JOIN watermark
    WHERE received.told > watermark.heard_through AND received.told <= watermark.told
    UNION ALL
    SELECT greatest(heard_through, (
        SELECT max(told) FROM heard_tellings WHERE told <= watermark.told)) + 1, told
    FROM watermark) AS runs
WHERE first <= last
ORDER BY first LIMIT $1
"""


async def missing_runs(tx: Transaction, limit: int) -> Sequence[LaunchesMissed]:
    """Return up to *limit* runs of numbers that the watermark counts and that are missing."""
    return [
        LaunchesMissed(first_launch_sequence=row["first"], last_launch_sequence=row["last"])
        for row in await tx.conn.fetch(MISSING_RUNS, limit)
    ]


SKIP_MISSING = "UPDATE watermark SET heard_through = greatest(heard_through, $1::bigint)"


async def skip_missing(tx: Transaction, through: int) -> None:
    """Wait no longer for launches up to the number *through*."""
    await tx.conn.execute(SKIP_MISSING, through)
