"""SQL that finds recorded ends of instances, to publish them again."""

from collections.abc import Collection

import msgspec

from shared.events.events import InstanceTerminated
from shared.postgres.pool import Transaction

# By the key alone: with a condition on the state, Postgres might look among all of that state.
FIND_TERMINATIONS = """
SELECT instance_id, terminated_at, end_cause AS cause, billed_seconds, cost_usd, cost_lines,
    end_cause = 'interrupted' AS spot_interrupted, instances.job_id, instances.attempt,
    (SELECT nullif(output, '') FROM consoles
        WHERE consoles.instance_id = instances.instance_id) AS console_output
FROM instances JOIN unnest($1::bigint[], $2::integer[]) AS own (job_id, attempt)
    ON instances.job_id = own.job_id AND instances.attempt = own.attempt
"""


async def find_terminations(
    tx: Transaction, attempts: Collection[tuple[int, int]]
) -> list[InstanceTerminated]:
    """Return the recorded ends of the instances of *attempts* (job and number).

    An end for an interruption counts as one by the Spot market: the row does not tell who began it.
    """
    keys = [job_id for job_id, _ in attempts], [number for _, number in attempts]
    rows = await tx.conn.fetch(FIND_TERMINATIONS, *keys)
    return [
        msgspec.convert(dict(row), InstanceTerminated)
        for row in rows
        if row["terminated_at"] is not None
    ]
