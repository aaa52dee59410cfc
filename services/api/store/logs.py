"""SQL of what containers printed: batches of lines, the beginning of a log and its end apart."""

from datetime import datetime
from typing import Any

from msgspec import Struct

from services.api.log_bounds import Amount, Kept, Line
from services.api.store.jobs import Owner
from shared.db import Connection, Transaction


class Piece(Struct, frozen=True, kw_only=True):
    """One stored batch, or the part of it that is in the log's beginning or end.

    Of the end: `start` is what the attempt printed before it, `head` how much of that is in the
    beginning. Both are None for a piece of the beginning.
    """

    attempt: int
    seq: int
    lines: list[Line]
    start: Amount | None = None
    head: Amount | None = None
    received_at: datetime | None = None


# The guard makes a repeated batch change nothing. Whoever decided `Kept` holds the job's lock.
KEEP_BATCH = """
WITH taken AS (
    UPDATE attempts SET log_seq = $3, log_head_bytes = log_head_bytes + $5,
        log_head_lines = log_head_lines + $6, log_bytes = $7, log_lines = $8
    WHERE job_id = $1 AND number = $2 AND log_seq < $3
    RETURNING job_id
), head AS (
    INSERT INTO log_batches (job_id, attempt, seq, lines)
    SELECT job_id, $2, $3, $4::jsonb FROM taken WHERE $6 > 0
    ON CONFLICT DO NOTHING
), deleted AS (
    DELETE FROM log_tails USING taken
    WHERE log_tails.job_id = taken.job_id AND attempt = $2 AND starts_at < $12
)
INSERT INTO log_tails (job_id, attempt, seq, lines, starts_at, first_line, received_at)
SELECT job_id, $2, $3, $9::jsonb, $10, $11, $13 FROM taken WHERE $9::jsonb IS NOT NULL
"""


async def keep_batch(tx: Transaction, owner: Owner, seq: int, kept: Kept) -> None:
    """Keep batch *seq* of an attempt as decided, unless it was taken before."""
    await tx.conn.execute(
        KEEP_BATCH,
        owner.job_id,
        owner.attempt,
        seq,
        kept.head,
        kept.head_size.bytes,
        kept.head_size.lines,
        kept.total.bytes,
        kept.total.lines,
        kept.tail,
        kept.tail_start.bytes,
        kept.tail_start.lines,
        kept.keep_from,
        tx.now,
    )


# One snapshot: a batch that moves on from the end to being left out is never missed in between.
READ_PIECES = """
(SELECT attempt, seq, 1 AS part, lines, NULL::bigint AS starts_at, NULL::bigint AS first_line,
        NULL::bigint AS log_head_bytes, NULL::bigint AS log_head_lines,
        NULL::timestamptz AS received_at
 FROM log_batches
 WHERE job_id = $1 AND (attempt, seq) > ($2, $3) ORDER BY attempt, seq LIMIT $4)
UNION ALL
(SELECT attempt, seq, 2, lines, starts_at, first_line, log_head_bytes, log_head_lines, received_at
 FROM log_tails JOIN attempts ON attempts.job_id = $1 AND number = attempt
 WHERE log_tails.job_id = $1 AND (attempt, seq) > ($2, $3) ORDER BY attempt, seq LIMIT $4)
ORDER BY attempt, seq, part LIMIT $4
"""


async def read_pieces(
    conn: Connection, job_id: int, *, after: tuple[int, int] = (0, 0), limit: int = 100
) -> list[Piece]:
    """The pieces behind the place *after* (attempt, seq), in order; about *limit* at once.

    The two pieces of one batch always come together.
    """
    rows = await conn.fetch(READ_PIECES, job_id, *after, limit + 1)
    pieces = [_as_piece(row) for row in rows]
    if len(pieces) <= limit:
        return pieces
    last = pieces.pop()
    return [each for each in pieces if (each.attempt, each.seq) != (last.attempt, last.seq)]


FIND_PIECES = """
SELECT attempt, seq, 1 AS part, lines, NULL::bigint AS starts_at, NULL::bigint AS first_line,
       NULL::bigint AS log_head_bytes, NULL::bigint AS log_head_lines,
       NULL::timestamptz AS received_at
FROM log_batches WHERE job_id = $1 AND attempt = $2 AND seq = $3
UNION ALL
SELECT attempt, seq, 2, lines, starts_at, first_line, log_head_bytes, log_head_lines, received_at
FROM log_tails JOIN attempts ON attempts.job_id = $1 AND number = attempt
WHERE log_tails.job_id = $1 AND attempt = $2 AND seq = $3
ORDER BY part
"""


async def find_pieces(conn: Connection, job_id: int, place: tuple[int, int]) -> list[Piece]:
    """The pieces of the batch at *place*; none where it was left out meanwhile."""
    return [_as_piece(row) for row in await conn.fetch(FIND_PIECES, job_id, *place)]


def _as_piece(row: Any) -> Piece:
    lines = [(at, stream, text) for at, stream, text in row["lines"]]
    if row["starts_at"] is None:
        return Piece(attempt=row["attempt"], seq=row["seq"], lines=lines)
    return Piece(
        attempt=row["attempt"],
        seq=row["seq"],
        lines=lines,
        start=Amount(row["starts_at"], row["first_line"]),
        head=Amount(row["log_head_bytes"], row["log_head_lines"]),
        received_at=row["received_at"],
    )
