"""SQL of logs: batches of lines, with the beginning and the end of a log in two tables."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct
from msgspec.json import Decoder
from msgspec.structs import replace

from services.api.jobs.model import Attempt
from services.api.jobs.store import Owner
from services.api.logs.bounds import Amount, Continues, Kept, Line
from shared.postgres.pool import Connection, Transaction, json_text


class Piece(Struct, frozen=True, kw_only=True):
    """One stored batch, or the part of it that is in the log's beginning or end.

    Of the end: `start` is the amount that the attempt printed before it, `head` the part of that in
    the beginning. Both are None for a piece of the beginning.
    """

    attempt: int
    seq: int
    lines: list[Line]
    start: Amount | None = None
    head: Amount | None = None
    received_at: datetime | None = None

    @property
    def place(self) -> tuple[int, int]:
        """The attempt and the number of the batch."""
        return self.attempt, self.seq


class LogBatch(Struct, frozen=True):
    """Lines of an attempt that are to be kept."""

    owner: Owner
    seq: int
    kept: Kept

    def counted_in(self, attempt: Attempt) -> Attempt:
        """Count the batch in *attempt*."""
        return replace(
            attempt,
            log_seq=self.seq,
            log_bytes=self.kept.total.bytes,
            log_lines=self.kept.total.lines,
            log_head_bytes=attempt.log_head_bytes + self.kept.head_size.bytes,
            log_head_lines=attempt.log_head_lines + self.kept.head_size.lines,
        )


# The guard makes a repeated batch change nothing. The caller holds the lock of the job. The one
# update of the attempt's row has no column with an index, so it stays in its page (HOT).
KEEP_BATCHES = """
WITH taken AS (
    UPDATE attempts SET log_seq = seq, log_head_bytes = log_head_bytes + head_bytes,
        log_head_lines = log_head_lines + head_lines, log_bytes = all_bytes, log_lines = all_lines,
        heartbeat_at = CASE WHEN state = 'ended' THEN heartbeat_at
                            ELSE greatest(heartbeat_at, $13) END
    FROM unnest($1::bigint[], $2::integer[], $3::integer[], $4::text[], $5::bigint[], $6::bigint[],
                $7::bigint[], $8::bigint[], $9::text[], $10::bigint[], $11::bigint[], $12::bigint[],
                $14::text[], $15::text[])
        AS new (job, attempt, seq, head, head_bytes, head_lines, all_bytes, all_lines,
                tail, starts_at, first_line, keep_from, head_continues, tail_continues)
    WHERE job_id = job AND number = attempt AND log_seq < seq
    RETURNING job, attempt, seq, head, head_lines, tail, starts_at, first_line, keep_from,
        head_continues, tail_continues
), head AS (
    INSERT INTO log_batches (job_id, attempt, seq, lines, continues)
    SELECT job, attempt, seq, head::jsonb, head_continues FROM taken WHERE head_lines > 0
    ON CONFLICT DO NOTHING
), deleted AS (
    DELETE FROM log_tails USING taken
    WHERE log_tails.job_id = job AND log_tails.attempt = taken.attempt
        AND log_tails.starts_at < keep_from
)
INSERT INTO log_tails (job_id, attempt, seq, lines, continues, starts_at, first_line, received_at)
SELECT job, attempt, seq, tail::jsonb, tail_continues, starts_at, first_line, $13
FROM taken WHERE tail IS NOT NULL
"""


async def keep_batches(tx: Transaction, batches: Sequence[LogBatch]) -> None:
    """Keep batches as decided, unless they were kept before; at most one an attempt.

    They are heartbeats of the attempts that have not ended.
    """
    kept = [each.kept for each in batches]
    await tx.conn.execute(
        KEEP_BATCHES,
        [each.owner.job_id for each in batches],
        [each.owner.attempt for each in batches],
        [each.seq for each in batches],
        [_texts(each.head) for each in kept],
        [each.head_size.bytes for each in kept],
        [each.head_size.lines for each in kept],
        [each.total.bytes for each in kept],
        [each.total.lines for each in kept],
        [None if each.tail is None else _texts(each.tail) for each in kept],
        [each.tail_start.bytes for each in kept],
        [each.tail_start.lines for each in kept],
        [each.keep_from for each in kept],
        tx.now,
        [_marks(each.head) for each in kept],
        [_marks(each.tail or ()) for each in kept],
    )


_LETTERS: dict[Continues | None, str] = {None: ".", "unfinished": "u", "split": "s"}
_MEANINGS = {letter: continues for continues, letter in _LETTERS.items()}


def _texts(lines: Sequence[Line]) -> str:
    """Return the lines as they are stored, without `continues`, which is a column of its own."""
    return json_text([line[:3] for line in lines])


def _marks(lines: Sequence[Line]) -> str | None:
    """Return the letters of `continues`, one a line; None if all lines have ended."""
    if all(line.continues is None for line in lines):
        return None
    return "".join(_LETTERS[line.continues] for line in lines)


_AFTER = """
WHERE job_id = $1 AND (attempt, seq) > ($2, $3) AND attempt <= $5
ORDER BY attempt, seq LIMIT $4
"""
_BEFORE = """
WHERE job_id = $1 AND (attempt, seq) < ($2, $3) AND attempt >= $5
ORDER BY attempt DESC, seq DESC LIMIT $4
"""
_AT = "WHERE job_id = $1 AND attempt = $2 AND seq = $3"


def _of_both(where: str, then: str) -> str:
    """Make one statement over both tables.

    One snapshot: a batch that is deleted from the end meanwhile is not missed. The end is limited
    before it is joined, or all of it would be read for each page.
    """
    return f"""
(SELECT attempt, seq, 1 AS part, lines::text, continues, NULL::bigint AS starts_at,
        NULL::bigint AS first_line, NULL::bigint AS log_head_bytes, NULL::bigint AS log_head_lines,
        NULL::timestamptz AS received_at
 FROM log_batches {where})
UNION ALL
SELECT attempt, seq, 2, lines::text, continues, starts_at, first_line, log_head_bytes,
       log_head_lines, received_at
FROM (SELECT * FROM log_tails {where}) ends
JOIN attempts ON attempts.job_id = ends.job_id AND number = attempt
{then}
"""  # noqa: S608 - our own conditions


READ_PIECES = _of_both(_AFTER, "ORDER BY attempt, seq, part LIMIT $4")
READ_BACK = _of_both(_BEFORE, "ORDER BY attempt DESC, seq DESC, part DESC LIMIT $4")
FIND_PIECES = _of_both(_AT, "ORDER BY part")

LAST_ATTEMPT = 2**31 - 1
END = (LAST_ATTEMPT, LAST_ATTEMPT)
"""A place after every batch."""


async def read_pieces(
    conn: Connection,
    job_id: int,
    *,
    after: tuple[int, int] = (0, 0),
    upto: int = LAST_ATTEMPT,
    limit: int = 100,
) -> list[Piece]:
    """Load the pieces after the place *after* (attempt, seq), in order; about *limit* at once.

    The two pieces of one batch are always loaded together, so *limit* is at least 2. Attempts after
    *upto* are left out.
    """
    rows = await conn.fetch(READ_PIECES, job_id, *after, limit + 1, upto)
    return _whole_batches([_as_piece(row) for row in rows], limit)


async def read_back(
    conn: Connection,
    job_id: int,
    *,
    before: tuple[int, int] = END,
    down_to: int = 0,
    limit: int = 100,
) -> list[Piece]:
    """Load the pieces before a place, the latest first, as `read_pieces` does.

    Attempts before *down_to* are left out.
    """
    rows = await conn.fetch(READ_BACK, job_id, *before, limit + 1, down_to)
    return _whole_batches([_as_piece(row) for row in rows], limit)


def _whole_batches(pieces: list[Piece], limit: int) -> list[Piece]:
    if len(pieces) <= limit:
        return pieces
    last = pieces.pop()
    return [each for each in pieces if each.place != last.place]


async def find_pieces(conn: Connection, job_id: int, place: tuple[int, int]) -> list[Piece]:
    """Load the pieces of the batch at *place*; none if it was left out meanwhile."""
    return [_as_piece(row) for row in await conn.fetch(FIND_PIECES, job_id, *place)]


def _as_piece(row: Any) -> Piece:
    lines = _as_lines(row["lines"], row["continues"])
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


_decode = Decoder(list[Line]).decode


def _as_lines(stored: str, marks: str | None) -> list[Line]:
    """Decode lines, straight to their type (to copy them would take as long), and their letters."""
    lines = _decode(stored)
    if marks is None:
        return lines
    return [
        line._replace(continues=_MEANINGS.get(mark))
        for line, mark in zip(lines, marks, strict=True)
    ]
