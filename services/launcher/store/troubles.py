"""SQL over the faults of the deployment for which launches wait."""

from collections.abc import Collection, Sequence

from services.launcher.model import Trouble, Waiting
from shared.launch_pauses import LAST_FAILURE, PAUSED
from shared.postgres.pool import Connection, Transaction

# Of several replicas one at a time decides: only this sweep writes the table.
LOCK_TROUBLES = "LOCK TABLE troubles IN SHARE ROW EXCLUSIVE MODE"

LOAD_TROUBLES = """
SELECT to_change, message, launches, since, alert_at FROM troubles ORDER BY to_change
"""

# Without what an instance has printed, which the end of a pause's message has: anybody may ask.
# A launch that a pause holds back is not refused: the pause stands for it.
FIND_WAITING = """
SELECT to_change, coalesce(max(split_part(last_error, $1, 1)), '') AS message,
    count(*) AS launches
FROM launches
WHERE to_change IS NOT NULL AND settled_at IS NULL AND paused_from IS NULL
GROUP BY to_change ORDER BY to_change
"""

FIND_PAUSE = """
SELECT $2::text AS to_change, split_part(message, $1, 1) AS message,
    (SELECT count(*) FROM launches WHERE state = 'wanted' AND paused_from IS NOT NULL) AS launches
FROM pauses WHERE paused_until IS NOT NULL
"""

SAVE_TROUBLE = """
INSERT INTO troubles (to_change, message, launches, since, seen_at, alert_at)
VALUES ($1, $2, $3, $4, $6, $5)
ON CONFLICT (to_change) DO UPDATE SET message = excluded.message, launches = excluded.launches,
    seen_at = excluded.seen_at, alert_at = excluded.alert_at
"""

REMOVE_TROUBLES = "DELETE FROM troubles WHERE to_change = ANY ($1::text[])"


async def lock_troubles(tx: Transaction) -> list[Trouble]:
    """Lock and return what was recorded last."""
    await tx.conn.execute(LOCK_TROUBLES)
    return await load_troubles(tx.conn)


async def load_troubles(conn: Connection) -> list[Trouble]:
    """Return what was recorded last."""
    return [Trouble(**row) for row in await conn.fetch(LOAD_TROUBLES)]


async def find_waiting(tx: Transaction) -> list[Waiting]:
    """Return for what launches wait now, with one of the messages of each; a pause is `PAUSED`."""
    rows = [
        *await tx.conn.fetch(FIND_PAUSE, LAST_FAILURE, PAUSED),
        *await tx.conn.fetch(FIND_WAITING, LAST_FAILURE),
    ]
    return [Waiting(**row) for row in rows]


async def save_troubles(
    tx: Transaction, found: Sequence[Trouble], mended: Collection[Trouble]
) -> None:
    """Save *found*, and remove *mended*."""
    rows = [
        (each.to_change, each.message, each.launches, each.since, each.alert_at, tx.now)
        for each in found
    ]
    await tx.conn.executemany(SAVE_TROUBLE, rows)
    await tx.conn.execute(REMOVE_TROUBLES, [each.to_change for each in mended])
