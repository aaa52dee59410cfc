"""The last lines of a log: found from its end, without reading what is before them."""

from collections.abc import Iterator

from msgspec import Struct

from services.api.logs import store as log_store
from services.api.logs.bounds import Line
from services.api.logs.reader import Start
from services.api.logs.store import END, Piece
from shared.postgres.pool import Connection

FIRST_READ, MOST_READ = 4, 64
"""The pieces that are read at once, doubled from the one to the other."""


async def find_tail(
    conn: Connection, job_id: int, count: int, *, whole: Start, upto: int, stream: str | None
) -> Start:
    """Find where the last *count* lines begin; *whole* if there are no more than those.

    Attempts after *upto* and before that of *whole* are left out, and all streams but *stream*.
    """
    tail = Tail(count, stream)
    before, limit = min((upto + 1, 0), END), FIRST_READ
    while True:
        pieces = await log_store.read_back(
            conn, job_id, before=before, down_to=whole.after[0], limit=limit
        )
        for piece in pieces:
            found = tail.feed(piece)
            if found is not None:
                return found
        if not pieces:
            return whole
        before, limit = pieces[-1].place, min(limit * 2, MOST_READ)


class _Position(Struct, frozen=True):
    piece: Piece
    index: int

    @property
    def line(self) -> Line:
        return self.piece.lines[self.index]


class Tail:
    """Counts lines from the end of a log, as `plain.PlainLog` shows them. Pure.

    Pieces of an unfinished line are one line, and those of a split line are each one.
    """

    def __init__(self, count: int, stream: str | None = None) -> None:
        self._left = count
        self._stream = stream
        self._next: _Position | None = None
        """The earliest line so far: by the one before it shows whether a line begins with it."""
        self._later: Piece | None = None
        self._cut = False
        """True if something was left out between the line to come and the earliest so far."""

    def feed(self, piece: Piece) -> Start | None:
        """Count the lines of the piece before the last one fed; return the start if it is found."""
        if self._left == 0:
            return _after(piece)
        self._cut = self._cut or (self._later is not None and _is_cut(piece, self._later))
        self._later = piece
        for position in self._backwards(piece):
            begun, cut = self._next, self._cut
            self._next, self._cut = position, False
            if begun is None or (not cut and _joins(position, begun)):
                continue
            self._left -= 1
            if self._left == 0:
                return _at(begun, in_middle=position.piece.attempt == begun.piece.attempt)
        return None

    def _backwards(self, piece: Piece) -> Iterator[_Position]:
        for index in range(len(piece.lines) - 1, -1, -1):
            if self._stream in (None, piece.lines[index].stream):
                yield _Position(piece, index)


def _is_cut(piece: Piece, later: Piece) -> bool:
    """Return whether something was left out between two pieces."""
    if later.start is None or later.head is None or piece.attempt != later.attempt:
        return False
    end = later.head if piece.start is None else piece.start.plus(piece.lines)
    return later.start.bytes > end.bytes


def _joins(position: _Position, later: _Position) -> bool:
    """Return whether *later* goes on with the line that *position* has begun."""
    return (
        position.line.continues == "unfinished"
        and position.line.stream == later.line.stream
        and position.piece.attempt == later.piece.attempt
    )


def _at(first: _Position, *, in_middle: bool) -> Start:
    piece = first.piece
    return Start(
        after=(piece.attempt, piece.seq - 1),
        skip=first.index,
        in_tail=piece.start is not None,
        read_to=piece.start and piece.start.plus(piece.lines[: first.index]),
        within=piece.attempt if in_middle else 0,
    )


def _after(piece: Piece) -> Start:
    return Start(
        after=piece.place,
        read_to=piece.start and piece.start.plus(piece.lines),
        within=piece.attempt,
    )
