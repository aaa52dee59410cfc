"""SQL that finds launches in any state, to publish them again."""

from collections.abc import Collection

import msgspec

from services.launcher.model import KnownLaunch
from shared.events.events import LaunchesMissed
from shared.postgres.pool import Transaction

FIND_LAUNCHES = """
SELECT launches.job_id, launches.attempt, state, unwanted, trace, due_at, reason, last_error,
    delay_told_at, to_change, report, launch_token, params, instance_id, launched_at,
    told AS launch_sequence
FROM launches JOIN unnest($1::bigint[], $2::integer[]) AS own (job_id, attempt)
    ON launches.job_id = own.job_id AND launches.attempt = own.attempt
"""


async def find_launches(
    tx: Transaction, attempts: Collection[tuple[int, int]]
) -> list[KnownLaunch]:
    """Return the launches of *attempts* (job and number)."""
    keys = [job_id for job_id, _ in attempts], [number for _, number in attempts]
    rows = await tx.conn.fetch(FIND_LAUNCHES, *keys)
    return [msgspec.convert(dict(row), KnownLaunch) for row in rows]


FIND_NUMBERED = """
SELECT job_id, attempt, state, unwanted, trace, due_at, reason, last_error, delay_told_at,
    to_change, report,
    launch_token, params, instance_id, launched_at, told AS launch_sequence
FROM launches WHERE told BETWEEN $1 AND $2
ORDER BY told LIMIT (SELECT $3::integer)
"""


async def find_numbered(tx: Transaction, missed: LaunchesMissed, limit: int) -> list[KnownLaunch]:
    """Return up to *limit* of the launches with the numbers of *missed*, the lowest first."""
    numbers = missed.first_launch_sequence, missed.last_launch_sequence
    rows = await tx.conn.fetch(FIND_NUMBERED, *numbers, limit)
    return [msgspec.convert(dict(row), KnownLaunch) for row in rows]
