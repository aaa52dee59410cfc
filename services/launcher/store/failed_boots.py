"""SQL of the pools in which instances did not boot."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from services.launcher.failed_boots import LONG_REST, PoolFailure, decide_avoided
from shared.compute.avoided import Avoided
from shared.events.events import AttemptEnded
from shared.postgres.pool import Transaction

# The launch of an earlier release may have no report of its pool.
ADD_FAILED_BOOTS = """
INSERT INTO failed_boots (job_id, attempt, instance_type, zone, failed_at)
SELECT job_id, attempt, report ->> 'instance_type', report ->> 'zone', ended_at
FROM unnest($1::bigint[], $2::integer[], $3::timestamptz[]) AS new (job_id, attempt, ended_at)
    JOIN launches USING (job_id, attempt)
WHERE state = 'launched' AND report ?& '{instance_type, zone}'
ORDER BY job_id, attempt
ON CONFLICT DO NOTHING
"""

PRUNE_FAILED_BOOTS = "DELETE FROM failed_boots WHERE failed_at < $1"

LOAD_FAILED_BOOTS = """
SELECT job_id, instance_type, zone, failed_at FROM failed_boots
WHERE failed_at > $1 ORDER BY failed_at DESC LIMIT 500
"""


async def note_failed_boots(tx: Transaction, failed: Sequence[AttemptEnded]) -> None:
    """Record the pools of these attempts' instances; forget those of long ago."""
    if not failed:
        return
    await forget_failed_boots(tx, tx.now - LONG_REST)
    await tx.conn.execute(
        ADD_FAILED_BOOTS,
        [each.job_id for each in failed],
        [each.attempt for each in failed],
        [each.ended_at for each in failed],
    )


async def forget_failed_boots(tx: Transaction, before: datetime) -> None:
    """Forget the failed boots *before* a time."""
    await tx.conn.execute(PRUNE_FAILED_BOOTS, before)


async def load_avoided(tx: Transaction) -> tuple[Avoided, ...]:
    """Return the pools to avoid now."""
    rows = await tx.conn.fetch(LOAD_FAILED_BOOTS, tx.now - LONG_REST)
    return decide_avoided([msgspec.convert(dict(row), PoolFailure) for row in rows], tx.now)
