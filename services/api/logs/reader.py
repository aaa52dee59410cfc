"""Reading a job's log: batch by batch, with a line where something was left out."""

from msgspec import Struct

from services.api.logs import store as log_store
from services.api.logs.bounds import Amount, Line, gap_line
from services.api.logs.store import Piece
from shared.postgres.pool import Connection

Place = tuple[int, int]
"""Attempt and number of a batch: the reader continues after it."""


class LogPage(Struct, frozen=True):
    """Lines of one batch, after a line about the gap before them if there is one."""

    attempt: int
    seq: int
    lines: list[Line]


class LogReader:
    """Reads the log of one job from a place on, and keeps its position."""

    def __init__(self, job_id: int, after: Place = (0, 0)) -> None:
        self._job_id = job_id
        self._place = after
        self._resumed = after != (0, 0)
        self._read_to: Amount | None = None
        """The amount of the attempt that is read or reported as left out; None: its beginning."""
        self._lost = False
        """True if it is unknown how much of the attempt a resuming reader has."""

    async def read(self, conn: Connection) -> list[LogPage]:
        """Read the next batches in order; empty if there are none (yet)."""
        if self._resumed:
            await self._resume(conn)
            self._resumed = False
        pages: list[LogPage] = []
        for piece in await log_store.read_pieces(conn, self._job_id, after=self._place):
            lines = self._lines_of(piece)
            if pages and (piece.attempt, piece.seq) == self._place:
                pages[-1].lines.extend(lines)
            else:
                pages.append(LogPage(piece.attempt, piece.seq, lines))
            self._place = (piece.attempt, piece.seq)
        return pages

    async def _resume(self, conn: Connection) -> None:
        found = await log_store.find_pieces(conn, self._job_id, self._place)
        self._lost = not found
        if found and found[-1].start is not None:
            self._read_to = found[-1].start.plus(found[-1].lines)

    def _lines_of(self, piece: Piece) -> list[Line]:
        attempt, seq = self._place
        if piece.attempt != attempt:
            self._read_to, self._lost = None, False
        if piece.start is None or piece.head is None or piece.received_at is None:
            return list(piece.lines)
        known, self._lost = not self._lost, False
        before = self._read_to or piece.head
        self._read_to = piece.start.plus(piece.lines)
        gap = Amount(piece.start.bytes - before.bytes, piece.start.lines - before.lines)
        if known and gap.bytes > 0:
            return [gap_line(piece.received_at, gap), *piece.lines]
        if not known and piece.seq > seq + 1:
            return [gap_line(piece.received_at, None), *piece.lines]
        return list(piece.lines)
