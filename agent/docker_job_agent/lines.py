"""The container's output: bytes decoded into lines and parts of lines."""

from __future__ import annotations

import codecs
from typing import NamedTuple

from .redraw import ESCAPE, MAX_PIECE_BYTES, OpenLine, Piece

FIRST_PAUSE_SECONDS = 1.0  # after which an unfinished line is shown
MAX_PAUSE_SECONDS = 10.0  # a line that stays unfinished is shown ever more seldom, up to this
NUL = "\0"  # Postgres refuses it in text
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
OWN_STREAM = "docker-job"  # of lines that are the agent's own


class Line(NamedTuple):
    """A line, or a part of one (see `Piece`); `at` is ISO 8601 in UTC."""

    at: str
    stream: str
    text: str
    continues: str | None = None

    def as_json(self) -> dict[str, str]:
        """Return the line as a report has it."""
        return {name: value for name, value in self._asdict().items() if value is not None}


def size_of(line: Line) -> int:
    """Return what a line counts against the limits: its bytes and its newline."""
    return len(line.text.encode("utf-8", "replace")) + 1


class LineReader:
    """Decoder of one stream's bytes into lines of bounded length, valid in every database.

    A line that stays unfinished is shown after a second, then after pauses that double. Times are
    monotonic seconds.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._line = OpenLine()
        self._news_since: float | None = None
        self._shown_at = float("-inf")
        self._pause = FIRST_PAUSE_SECONDS

    def feed(self, data: bytes, now: float) -> list[Piece]:
        """Return the pieces that these bytes complete."""
        text = self._decoder.decode(data, final=not data).replace(NUL, REPLACEMENT)
        *ended, rest = text.split("\n")
        pieces: list[Piece] = []
        is_plain = "\r" not in text and ESCAPE not in text
        for each in ended:
            if is_plain and self._line.is_untouched and len(each) * 4 <= MAX_PIECE_BYTES:
                pieces.append(Piece(each))  # fast: by far the most lines are such
                continue
            pieces += self._line.write(each)
            pieces.append(self._line.end())
            self._line = OpenLine()
        pieces += self._line.write(rest)
        if ended:
            self._news_since, self._shown_at = None, float("-inf")
            self._pause = FIRST_PAUSE_SECONDS
        if not self._line.has_news:
            self._news_since = None
        elif self._news_since is None:
            self._news_since = now
        return pieces

    def seconds_until_due(self, now: float) -> float | None:
        """Return in how many seconds an unfinished line is to be shown; None if nothing is new."""
        if self._news_since is None:
            return None
        due_at = max(self._news_since + FIRST_PAUSE_SECONDS, self._shown_at + self._pause)
        return max(0.0, due_at - now)

    def take_due(self, now: float) -> list[Piece]:
        """Return the unfinished line, if it is due."""
        if self.seconds_until_due(now) != 0.0:
            return []
        if self._shown_at > float("-inf"):
            self._pause = min(2 * self._pause, MAX_PAUSE_SECONDS)
        self._news_since, self._shown_at = None, now
        return [self._line.show()]

    def close(self) -> list[Piece]:
        """Return the last line, if the stream ended without a newline."""
        pieces = self.feed(b"", 0.0)
        if not self._line.is_untouched:
            pieces.append(self._line.end())
            self._line = OpenLine()
        return pieces
