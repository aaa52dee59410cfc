"""SQL over the notices of the cloud's own channel."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from services.reaper.model import Interruption
from shared.compute.port import Notice
from shared.postgres.pool import Transaction

ADD_NOTICES = """
INSERT INTO notices (instance_id, kind, noticed_at, heard_at)
SELECT instance_id, kind, noticed_at, $4
FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS new (instance_id, kind, noticed_at)
ON CONFLICT DO NOTHING
"""


async def add_notices(tx: Transaction, notices: Sequence[Notice]) -> None:
    """Record these, each kind once for an instance."""
    await tx.conn.execute(
        ADD_NOTICES,
        [each.instance_id for each in notices],
        [each.kind for each in notices],
        [each.noticed_at for each in notices],
        tx.now,
    )


# A notice and its instance's launch come in either order, or at once in two replicas: this joins
# them on every pass, rather than both handlers. Neither ending nor terminated means running. By the
# instances' ids: a join might scan all instances.
CLAIM_UNPUBLISHED = """
WITH running AS MATERIALIZED (
    SELECT instance_id, job_id, attempt, trace FROM instances
    WHERE instance_id = ANY (ARRAY(SELECT instance_id FROM notices WHERE told_at IS NULL))
        AND due_at IS NULL AND terminated_at IS NULL AND job_id IS NOT NULL)
UPDATE notices SET told_at = $1
FROM running
WHERE notices.told_at IS NULL AND notices.instance_id = running.instance_id
RETURNING notices.instance_id, notices.kind, notices.noticed_at, running.job_id, running.attempt,
    running.trace
"""


async def claim_unpublished(tx: Transaction) -> list[Interruption]:
    """Return the notices to publish now, marked: of running instances whose attempt is known."""
    rows = await tx.conn.fetch(CLAIM_UNPUBLISHED, tx.now)
    return [msgspec.convert(dict(row), Interruption) for row in rows]


PRUNE_NOTICES = """
DELETE FROM notices WHERE (instance_id, kind) IN (
    SELECT instance_id, kind FROM notices WHERE heard_at < $1 ORDER BY heard_at LIMIT $2)
"""


async def prune_notices(tx: Transaction, before: datetime, limit: int) -> bool:
    """Delete notices received before *before*; return True if there may be more."""
    result = await tx.conn.execute(PRUNE_NOTICES, before, limit)
    return int(result.removeprefix("DELETE ")) >= limit
