"""SQL over the consoles that are read again after the end of their instances."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import convert

from services.reaper.model import ConsoleRead
from shared.events.events import InstanceTerminated
from shared.postgres.pool import Transaction

ADD_READS = """
INSERT INTO console_reads (instance_id, due_at)
SELECT instance_id, $2 FROM unnest($1::text[]) AS new (instance_id) ORDER BY instance_id
ON CONFLICT DO NOTHING
"""


async def add_reads(tx: Transaction, instance_ids: Sequence[str], due_at: datetime) -> None:
    """Have the consoles of these read at *due_at*."""
    await tx.conn.execute(ADD_READS, instance_ids, due_at)


CLAIM_READS = """
UPDATE console_reads SET tries = tries + 1, due_at = $2
WHERE instance_id = ANY (ARRAY(
    SELECT instance_id FROM console_reads WHERE due_at <= $1
    ORDER BY due_at LIMIT (SELECT $3::integer)
    FOR UPDATE SKIP LOCKED))
RETURNING instance_id, tries
"""


async def claim_reads(tx: Transaction, until: datetime, limit: int) -> list[ConsoleRead]:
    """Lease up to *limit* reads that are due until *until*."""
    rows = await tx.conn.fetch(CLAIM_READS, tx.now, until, limit)
    return [convert(dict(row), ConsoleRead) for row in rows]


POSTPONE_READS = """
UPDATE console_reads
SET due_at = ($2::timestamptz[])[array_position($1::text[], instance_id)]
WHERE instance_id = ANY ($1::text[])
"""


async def postpone_reads(tx: Transaction, due: Mapping[str, datetime]) -> None:
    """Read each again at its time in *due*."""
    await tx.conn.execute(POSTPONE_READS, list(due), list(due.values()))


END_READS = "DELETE FROM console_reads WHERE instance_id = ANY ($1::text[])"


async def end_reads(tx: Transaction, instance_ids: Sequence[str]) -> None:
    """Read these no more."""
    await tx.conn.execute(END_READS, instance_ids)


NEXT_READ = "SELECT min(due_at) FROM console_reads"


async def next_read(tx: Transaction) -> datetime | None:
    """Return when the next read is due, or None if none is."""
    due_at: datetime | None = await tx.conn.fetchval(NEXT_READ)
    return due_at


# An attempt that was lost shows the console of its instance. By the keys alone, as in
# `terminations`.
FIND_ENDS = """
SELECT instances.instance_id, trace, terminated_at, end_cause AS cause, billed_seconds, cost_usd,
    cost_lines, end_cause = 'interrupted' AS spot_interrupted, job_id, attempt,
    (SELECT nullif(output, '') FROM consoles
        WHERE consoles.instance_id = instances.instance_id) AS console_output,
    (SELECT ended.cause FROM ended_attempts AS ended WHERE ended.job_id = instances.job_id
        AND ended.attempt = instances.attempt) AS attempt_cause
FROM instances
WHERE instances.instance_id = ANY ($1::text[])
"""


async def find_ends(
    tx: Transaction, instance_ids: Sequence[str]
) -> list[tuple[str, InstanceTerminated]]:
    """Return the recorded ends of these with their traces, if a lost attempt may show a console."""
    rows: list[dict[str, Any]] = [dict(row) for row in await tx.conn.fetch(FIND_ENDS, instance_ids)]
    return [
        (row.pop("trace"), convert(row, InstanceTerminated))
        for row in rows
        if row.pop("attempt_cause") in (None, "lost") and row["terminated_at"] is not None
    ]
