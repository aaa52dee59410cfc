"""Reading a job's log: batch by batch, with a line where something was left out."""

from collections.abc import Sequence

from msgspec import Struct

from services.api.logs import store as log_store
from services.api.logs.bounds import Amount, Line, gap_line
from services.api.logs.store import LAST_ATTEMPT, Piece
from shared.postgres.pool import Connection

Place = tuple[int, int]
"""Attempt and number of a batch: the reader continues after it."""


class LogPage(Struct):
    """Lines of one batch, with a line about the gap before them if there is one.

    `gap_at` is that line's index: it is not the first if the gap is within the batch.
    """

    attempt: int
    seq: int
    lines: list[Line]
    gap_at: int | None = None


class Start(Struct, frozen=True):
    """The place where a reader begins: in the batch after the one at `after`, after `skip` lines.

    `in_tail`: these are in the log's end, else in its beginning. `read_to`: the amount of the
    attempt before the first line, None in the log's beginning. `within`: the attempt in whose
    middle the reader begins; 0 if it begins with an attempt.
    """

    after: Place = (0, 0)
    skip: int = 0
    in_tail: bool = False
    read_to: Amount | None = None
    within: int = 0


class LogReader:
    """Reads the log of one job from a place on, and keeps its position.

    Attempts after *upto* are left out, and of a batch the lines of all streams but *stream*.
    """

    def __init__(
        self,
        job_id: int,
        start: Start,
        *,
        resumed: bool = False,
        upto: int = LAST_ATTEMPT,
        stream: str | None = None,
    ) -> None:
        self._job_id = job_id
        self._start: Start | None = start
        self._upto = upto
        self._stream = stream
        self._place = start.after
        self._resumed = resumed
        self._read_to = start.read_to
        """The amount of the attempt that is read or reported as left out; None: its beginning."""
        self._lost = False
        """True if it is unknown how much of the attempt a resuming reader has."""

    @property
    def place(self) -> Place:
        """The last batch that was read, or the place from which the reader began."""
        return self._place

    async def read(self, conn: Connection) -> list[LogPage]:
        """Read the next batches in order; empty if there are none (yet)."""
        if self._resumed:
            await self._resume(conn)
            self._resumed = False
        return self.take(
            await log_store.read_pieces(conn, self._job_id, after=self._place, upto=self._upto)
        )

    def take(self, pieces: Sequence[Piece]) -> list[LogPage]:
        """Make pages of the next pieces, in order."""
        pages: list[LogPage] = []
        for piece in pieces:
            gap, lines = self._gap_before(piece), self._shown(piece)
            if not pages or piece.place != self._place:
                pages.append(LogPage(piece.attempt, piece.seq, []))
            page = pages[-1]
            if gap is not None:
                page.gap_at = len(page.lines)
                page.lines.append(gap)
            page.lines.extend(lines)
            self._place = piece.place
        return pages

    async def _resume(self, conn: Connection) -> None:
        found = await log_store.find_pieces(conn, self._job_id, self._place)
        self._lost = not found
        if found and found[-1].start is not None:
            self._read_to = found[-1].start.plus(found[-1].lines)

    def _gap_before(self, piece: Piece) -> Line | None:
        attempt, seq = self._place
        if piece.attempt != attempt:
            self._read_to, self._lost = None, False
        if piece.start is None or piece.head is None or piece.received_at is None:
            return None
        known, self._lost = not self._lost, False
        before = self._read_to or piece.head
        self._read_to = piece.start.plus(piece.lines)
        gap = Amount(piece.start.bytes - before.bytes, piece.start.lines - before.lines)
        if known and gap.bytes > 0:
            return gap_line(piece.received_at, gap)
        if not known and piece.seq > seq + 1:
            return gap_line(piece.received_at, None)
        return None

    def _shown(self, piece: Piece) -> list[Line]:
        lines = piece.lines[self._skipped(piece) :] if self._start else piece.lines
        if self._stream is None:
            return lines
        return [line for line in lines if line.stream == self._stream]

    def _skipped(self, piece: Piece) -> int:
        """Return how many lines of *piece* are before the start."""
        start, in_tail = self._start, piece.start is not None
        if start is None or piece.place != (start.after[0], start.after[1] + 1):
            self._start = None
            return 0
        if in_tail == start.in_tail:
            return start.skip
        return len(piece.lines) if start.in_tail else 0
