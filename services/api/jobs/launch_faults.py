"""The faults for which launches wait, as `LaunchDelayed.to_change` names them: for `/readyz`."""

from collections.abc import Mapping

from shared.postgres.pool import Connection

LOOKED_AT = 1000
"""Delayed attempts that one look reads, at most."""

# One message for each thing to change.
FIND_LAUNCH_FAULTS = """
SELECT DISTINCT ON (to_change) to_change, waiting_because
FROM (SELECT to_change, waiting_because FROM attempts
      WHERE state = 'delayed' AND to_change IS NOT NULL LIMIT $1) AS delayed
ORDER BY to_change, waiting_because
"""


async def degraded(conn: Connection) -> Mapping[str, str]:
    """Return what of the API's work does not go on: jobs wait, and why."""
    rows = await conn.fetch(FIND_LAUNCH_FAULTS, LOOKED_AT)
    if not rows:
        return {}
    return {"launches": "; ".join(f"jobs wait: {row['waiting_because']}" for row in rows)}
