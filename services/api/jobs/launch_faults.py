"""The faults for which launches wait, by what an operator can change: for `/readyz`.

An attempt has it from the launcher (`LaunchDelayed.to_change`), or from the one before, which EC2
has ended while it was launched (`launch_ends.py`). What only the breaker knows stands beside it.
"""

from collections.abc import Mapping

from services.api.jobs.boots import CHECK
from shared.launch_pauses import LAST_FAILURE, PAUSED
from shared.postgres.pool import Connection

LOOKED_AT = 1000
"""Delayed attempts that one look reads, at most; and as many that are to be tried again."""

# One message for each thing to change; without what an instance has printed. What waits for the end
# of a pause is not among them: the breaker names the pause.
FIND_LAUNCH_FAULTS = """
SELECT DISTINCT ON (to_change) to_change, split_part(because, $3, 1) AS because
FROM ((SELECT to_change, waiting_because AS because FROM attempts
       WHERE state = 'delayed' AND to_change IS NOT NULL LIMIT $1)
      UNION ALL
      (SELECT to_change, NULL FROM attempts
       WHERE state = 'scheduled' AND to_change IS NOT NULL LIMIT $1)) AS waiting
WHERE to_change <> $2 AND NOT starts_with(coalesce(because, ''), $4)
ORDER BY to_change, because
"""


async def degraded(conn: Connection) -> Mapping[str, str]:
    """Return what of the API's work does not go on: jobs wait, and why."""
    rows = await conn.fetch(FIND_LAUNCH_FAULTS, LOOKED_AT, CHECK, LAST_FAILURE, PAUSED)
    if not rows:
        return {}
    found = (row["because"] or f"until this is mended: {row['to_change']}" for row in rows)
    return {"launches": "; ".join(f"jobs wait: {each}" for each in found)}
