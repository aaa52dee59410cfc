"""The container's output: decoded into lines, and buffered within bounds."""

from __future__ import annotations

import codecs
from collections import deque
from typing import NamedTuple

MAX_LINE_CHARACTERS = 16 * 1024
MAX_BATCH_LINES = 1000
MAX_BATCH_BYTES = 128 * 1024
MAX_UNSENT_LINES = 100_000
MAX_UNSENT_BYTES = 4 * 1024 * 1024
OWN_STREAM = "docker-job"  # of lines that are the agent's own


class Line(NamedTuple):
    """One line that the container printed; `at` is ISO 8601 in UTC."""

    at: str
    stream: str
    text: str


class LineReader:
    """Decoder of one stream's bytes into lines of bounded length, valid in every database."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._rest = ""

    def feed(self, data: bytes) -> list[str]:
        """Return the lines that these bytes complete; a line over the limit comes in pieces."""
        text = self._rest + self._decoder.decode(data, final=not data)
        *lines, self._rest = text.split("\n")
        pieces = [piece for line in lines for piece in self._pieces(line.rstrip("\r"))]
        while len(self._rest) > MAX_LINE_CHARACTERS:
            pieces += self._pieces(self._rest[:MAX_LINE_CHARACTERS])
            self._rest = self._rest[MAX_LINE_CHARACTERS:]
        return pieces

    def close(self) -> list[str]:
        """Return the last line, if the stream ended without a newline."""
        lines = self.feed(b"")
        lines += self._pieces(self._rest) if self._rest else []
        self._rest = ""
        return lines

    @staticmethod
    def _pieces(line: str) -> list[str]:
        line = line.replace("\0", "")  # Postgres refuses NUL in text
        starts = range(0, max(1, len(line)), MAX_LINE_CHARACTERS)
        return [line[start : start + MAX_LINE_CHARACTERS] for start in starts]


class LogBuffer:
    """Lines not yet sent, within bounds, and the last lines of each stream. Not thread-safe.

    The API keeps the first half of `limit_bytes` and, of the rest, the end. So once the first half
    is sent, a line is left out if newer ones alone fill the limit: the API would not keep it
    either. The other bound is on memory: reading of the container's output should pause while
    `is_full`. Where it cannot, the oldest lines beyond twice as much are dropped, because errors
    come last.
    """

    def __init__(self, limit_bytes: int, tail_lines: int) -> None:
        self._limit = limit_bytes
        self._head_left = limit_bytes // 2
        self._lines: deque[tuple[int, Line]] = deque()  # each with its size
        self._bytes = 0
        self._left_out = (0, 0)  # lines and bytes
        self._dropped = 0
        self.drop_reason = "the API did not answer"  # why lines are dropped, if they are
        self._tails = {name: deque[str](maxlen=max(1, tail_lines)) for name in ("stdout", "stderr")}

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def is_full(self) -> bool:
        """Return whether reading should pause; the rest of the memory is for reads under way."""
        return len(self._lines) >= MAX_UNSENT_LINES // 2 or self._bytes >= MAX_UNSENT_BYTES // 2

    @property
    def has_full_batch(self) -> bool:
        """Return whether the next report would be full."""
        return len(self._lines) >= MAX_BATCH_LINES or self._bytes >= MAX_BATCH_BYTES

    def add(self, line: Line) -> None:
        """Add one line."""
        if line.stream in self._tails:  # else it is the agent's own
            self._tails[line.stream].append(line.text)
        size = size_of(line)
        self._lines.append((size, line))
        self._bytes += size
        while self._head_left <= 0 and self._bytes - self._lines[0][0] >= max(1, self._limit):
            lines, left_out = self._left_out
            self._left_out = (lines + 1, left_out + self._remove_oldest())
        while len(self._lines) > MAX_UNSENT_LINES or self._bytes > MAX_UNSENT_BYTES:
            self._remove_oldest()
            self._dropped += 1

    def take_batch(self) -> list[Line]:
        """Remove and return the next batch, oldest first, with a note where lines were dropped."""
        batch: list[Line] = []
        size = 0
        while self._lines and len(batch) < MAX_BATCH_LINES and size < MAX_BATCH_BYTES:
            line_size, line = self._lines.popleft()
            size += line_size
            batch.append(line)
        self._bytes -= size
        self._head_left -= size
        if batch and self._dropped:
            note = f"[docker-job: {self._dropped} lines dropped, {self.drop_reason}]"
            batch.insert(0, Line(batch[0].at, OWN_STREAM, note))
            self._dropped = 0
        return batch

    def take_left_out(self) -> dict[str, int] | None:
        """Return, once, how much was left out just before the last batch."""
        (lines, size), self._left_out = self._left_out, (0, 0)
        return {"lines": lines, "bytes": size} if lines else None

    def record_lost(self, lines: int, reason: str) -> None:
        """Count lines of a batch that the API has not kept."""
        self._dropped += lines
        self.drop_reason = reason

    def tail(self) -> list[str]:
        """Return the last lines of stderr, of stdout if stderr is empty."""
        has_text = any(text.strip() for text in self._tails["stderr"])
        return list(self._tails["stderr" if has_text else "stdout"])

    def _remove_oldest(self) -> int:
        size, _ = self._lines.popleft()
        self._bytes -= size
        return size


def size_of(line: Line) -> int:
    """Return what a line counts against the limits: its bytes and its newline."""
    return len(line.text.encode("utf-8", "replace")) + 1
