"""SQL over the calls of the cloud that a fault of the deployment forbids."""

from datetime import datetime, timedelta

from services.reaper.model import RefusedCall
from shared.compute.port import ComputeError
from shared.postgres.pool import Connection

# After a while without a refusal it begins anew.
SAVE = """
WITH under_way AS (
    SELECT alert_at FROM refused_calls WHERE call = $1 AND refused_at >= $5 AND alert_at > $3
)
INSERT INTO refused_calls (call, message, since, refused_at, alert_at) VALUES ($1, $2, $3, $3, $4)
ON CONFLICT (call) DO UPDATE SET message = excluded.message, refused_at = excluded.refused_at,
    since = CASE WHEN refused_calls.refused_at < $5 THEN $3 ELSE refused_calls.since END,
    alert_at = CASE WHEN refused_calls.refused_at < $5 OR refused_calls.alert_at <= $3
        THEN $4 ELSE refused_calls.alert_at END
RETURNING NOT EXISTS (SELECT FROM under_way)
"""

LOAD = """
SELECT call, message, since FROM refused_calls WHERE refused_at >= $1 ORDER BY call
"""


async def save(
    conn: Connection,
    call: str,
    error: ComputeError,
    now: datetime,
    *,
    alert_again: timedelta,
    lasts: timedelta,
) -> bool:
    """Record that *call* is refused; return whether an alert is due."""
    is_due: bool = await conn.fetchval(SAVE, call, str(error), now, now + alert_again, now - lasts)
    return is_due


async def load(conn: Connection, since: datetime) -> list[RefusedCall]:
    """Return the calls that were refused at *since* or later."""
    return [RefusedCall(**row) for row in await conn.fetch(LOAD, since)]
