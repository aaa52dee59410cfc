"""SQL over the one row that says when the offers are priced again, and who reads them now."""

import uuid
from datetime import datetime

from shared.postgres.pool import Connection, Transaction

CLAIM_PRICING = """
UPDATE pricing SET due_at = $2, lease_token = $3
WHERE due_at <= $1 OR (lease_token IS NULL AND priced_at <= $4)
RETURNING tries
"""


async def claim_pricing(
    tx: Transaction, until: datetime, token: uuid.UUID, published_before: datetime | None
) -> int | None:
    """Lease the reading of the offers if it is due; return how often it has failed in a row.

    It is due too if they were published before *published_before*, unless another reads them.
    """
    tries: int | None = await tx.conn.fetchval(
        CLAIM_PRICING, tx.now, until, token, published_before
    )
    return tries


NEXT_PRICING = "SELECT due_at FROM pricing"


async def next_pricing(conn: Connection) -> datetime | None:
    """Return when the offers are read again."""
    due_at: datetime | None = await conn.fetchval(NEXT_PRICING)
    return due_at


SETTLE_PRICING = """
UPDATE pricing SET priced_at = coalesce($1, priced_at), due_at = $2, tries = $3, lease_token = NULL
WHERE lease_token = $4 RETURNING true
"""


async def settle_pricing(
    tx: Transaction, token: uuid.UUID, due_at: datetime, *, priced_at: datetime | None, tries: int
) -> bool:
    """Give the lease back; return whether it was still held. *priced_at* is None for a failure."""
    held = await tx.conn.fetchval(SETTLE_PRICING, priced_at, due_at, tries, token)
    return bool(held)
