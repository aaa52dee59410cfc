"""SQL over instances that complete lists do not show, and the cloud's answers about them."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from services.reaper.model import NotFoundFor, Watched
from shared.postgres.pool import Transaction

CLAIM_MISSING = """
UPDATE instances SET ask_at = $2
WHERE instance_id = ANY (ARRAY(
    SELECT instance_id FROM instances
    WHERE missing_since IS NOT NULL AND terminated_at IS NULL
        AND coalesce(ask_at, '-infinity') <= $1
    ORDER BY coalesce(ask_at, '-infinity') LIMIT (SELECT $3::integer)
    FOR UPDATE SKIP LOCKED))
RETURNING instance_id, job_id, attempt, launch_token, trace, state, market, hourly_price_usd,
    launched_at, dies_by, end_cause, due_at, tries, missing_since, unlisted_seconds, not_found_at,
    not_found_seconds
"""


async def claim_missing(tx: Transaction, ask_again_at: datetime, limit: int) -> list[Watched]:
    """Return up to *limit* missing instances to ask for now; they are due again at that time."""
    rows = await tx.conn.fetch(CLAIM_MISSING, tx.now, ask_again_at, limit)
    return [msgspec.convert(dict(row), Watched) for row in rows]


LOCK_MISSING = """
SELECT instance_id FROM instances
WHERE instance_id = ANY ($1::text[]) AND missing_since IS NOT NULL AND terminated_at IS NULL
ORDER BY instance_id
FOR UPDATE
"""


async def lock_missing(tx: Transaction, instance_ids: Sequence[str]) -> set[str]:
    """Lock and return those of *instance_ids* that no list has shown again meanwhile."""
    return {row["instance_id"] for row in await tx.conn.fetch(LOCK_MISSING, instance_ids)}


SAVE_NOT_FOUND = """
UPDATE instances SET not_found_at = $3,
    not_found_seconds = ($2::double precision[])[array_position($1::text[], instance_id)]
WHERE instance_id = ANY ($1::text[])
"""


async def save_not_found(tx: Transaction, not_found: Sequence[NotFoundFor]) -> None:
    """Record that the cloud has answered now that there are no such instances."""
    await tx.conn.execute(
        SAVE_NOT_FOUND,
        [each.watched.instance_id for each in not_found],
        [each.seconds for each in not_found],
        tx.now,
    )


CLEAR_NOT_FOUND = """
UPDATE instances SET not_found_at = NULL, not_found_seconds = 0
WHERE instance_id = ANY ($1::text[])
"""


async def clear_not_found(tx: Transaction, instance_ids: Sequence[str]) -> None:
    """Record that the cloud knows these by their ids, though lists do not show them."""
    await tx.conn.execute(CLEAR_NOT_FOUND, instance_ids)
