"""SQL over the time of the last complete list, and over what waits for a further one."""

from datetime import datetime, timedelta

from shared.postgres.pool import Transaction

LOCK_LISTING = "SELECT listed_at FROM listings FOR UPDATE"


async def lock_listing(tx: Transaction) -> datetime | None:
    """Load the time of the last complete list; lock it until the transaction's end.

    So lists of replicas are processed one by one, and each gap between two counts once.
    """
    listed_at: datetime | None = await tx.conn.fetchval(LOCK_LISTING)
    return listed_at


SAVE_LISTING = "UPDATE listings SET listed_at = $1"


async def save_listing(tx: Transaction) -> None:
    """Record that a complete list is processed now."""
    await tx.conn.execute(SAVE_LISTING, tx.now)


POSTPONE_MISSING = """
UPDATE instances SET unlisted_seconds = unlisted_seconds + extract(epoch FROM $1::interval)
WHERE settled_at IS NULL AND missing_since IS NOT NULL
"""

# The sightings of the last list alone: an older one is of an instance that ended since.
POSTPONE_SIGHTINGS = """
UPDATE sightings SET first_seen_at = first_seen_at + $1::interval WHERE last_seen_at >= $2
"""


async def postpone_judgements(tx: Transaction, unlisted: timedelta, listed_at: datetime) -> None:
    """Let the time *unlisted* before now not count for what is missing or unknown."""
    await tx.conn.execute(POSTPONE_MISSING, unlisted)
    await tx.conn.execute(POSTPONE_SIGHTINGS, unlisted, listed_at)
