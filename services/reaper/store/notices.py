"""SQL over what the cloud's own channel has said of instances."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from services.reaper.model import Interruption
from shared.compute.port import Notice
from shared.postgres.pool import Transaction

HEAR_NOTICES = """
INSERT INTO notices (instance_id, kind, noticed_at, heard_at)
SELECT instance_id, kind, noticed_at, $4
FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS new (instance_id, kind, noticed_at)
ON CONFLICT DO NOTHING
"""


async def hear_notices(tx: Transaction, notices: Sequence[Notice]) -> None:
    """Remember these, each kind once for an instance."""
    await tx.conn.execute(
        HEAR_NOTICES,
        [each.instance_id for each in notices],
        [each.kind for each in notices],
        [each.noticed_at for each in notices],
        tx.now,
    )


# A notice and the launcher's word come in either order, and at once in two replicas: what joins
# them is this, again and again, and neither of both handlers. Neither ending nor terminated is
# running. Instances are looked up by their ids: joined, all of them might be gone through.
TELL_NOTICES = """
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


async def tell_notices(tx: Transaction) -> list[Interruption]:
    """What is to be told now: notices of running instances that are known to be somebody's."""
    rows = await tx.conn.fetch(TELL_NOTICES, tx.now)
    return [msgspec.convert(dict(row), Interruption) for row in rows]


PRUNE_NOTICES = """
DELETE FROM notices WHERE (instance_id, kind) IN (
    SELECT instance_id, kind FROM notices WHERE heard_at < $1 ORDER BY heard_at LIMIT $2)
"""


async def prune_notices(tx: Transaction, before: datetime, limit: int) -> bool:
    """Forget what was heard before *before*; True where there may be more."""
    result = await tx.conn.execute(PRUNE_NOTICES, before, limit)
    return int(result.removeprefix("DELETE ")) >= limit
