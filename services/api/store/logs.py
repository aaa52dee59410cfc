"""SQL of what containers printed: batches of lines, counted against the job's bound."""

from msgspec import Struct

from services.api.store.jobs import Owner
from shared.db import Connection, Transaction

Line = tuple[str, str, str]
"""Moment (ISO 8601), stream ("stdout", "stderr" or "docker-job") and text of one line."""


class Batch(Struct, frozen=True):
    """One stored batch of lines."""

    attempt: int
    seq: int
    lines: list[Line]


KEEP_BATCH = """
WITH kept AS (
    INSERT INTO log_batches (job_id, attempt, seq, lines) VALUES ($1, $2, $3, $4)
    ON CONFLICT DO NOTHING
    RETURNING job_id)
UPDATE jobs SET log_bytes = log_bytes + $5, log_cut = $6 FROM kept WHERE jobs.id = kept.job_id
"""


async def keep_batch(
    tx: Transaction, owner: Owner, seq: int, lines: list[Line], size: int, *, cut: bool
) -> None:
    """Keep a batch and count its *size* in bytes against the job's bound, unless it is here."""
    await tx.conn.execute(KEEP_BATCH, owner.job_id, owner.attempt, seq, lines, size, cut)


READ_BATCHES = """
SELECT attempt, seq, lines FROM log_batches
WHERE job_id = $1 AND (attempt, seq) > ($2, $3) ORDER BY attempt, seq LIMIT $4
"""


async def read_batches(
    conn: Connection, job_id: int, *, after: tuple[int, int] = (0, 0), limit: int = 100
) -> list[Batch]:
    """Up to *limit* batches behind the place *after* (attempt, seq), in order."""
    rows = await conn.fetch(READ_BATCHES, job_id, *after, limit)
    return [
        Batch(row["attempt"], row["seq"], [(at, stream, text) for at, stream, text in row["lines"]])
        for row in rows
    ]
