"""The lines that are not sent yet, within bounds."""

from __future__ import annotations

from .line_queue import MAX_BATCH_BYTES, MAX_BATCH_LINES, LineQueue
from .lines import OWN_STREAM, Line, size_of
from .spool import Spool
from .tails import Tails

MAX_UNSENT_LINES = 100_000  # in memory
MAX_UNSENT_BYTES = 4 * 1024 * 1024


class LogBuffer:
    """Lines not yet sent, within bounds, and the last lines of each stream. Not thread-safe.

    The API keeps the first half of `limit_bytes` and, of the rest, the end. So behind the first
    half a line is left out if newer unsent ones alone fill the limit: the API would not keep it
    either. Between these bounds lines wait in memory, and beyond that in the spool.

    Reading of the container's output should pause while `is_full`. Where it cannot and the spool
    takes no more, the oldest lines beyond twice as much in memory are dropped, because errors come
    last.
    """

    def __init__(self, limit_bytes: int, tail_lines: int, spool: Spool | None = None) -> None:
        self._limit = max(1, limit_bytes)
        self._head_room = limit_bytes // 2
        self._spool = spool
        self._head = LineQueue(spool)
        self._end = LineQueue(spool)
        self._left_out = (0, 0)  # lines and bytes just before the end that is not sent
        self._left_out_before_batch = (0, 0)
        self._dropped = 0
        self._last_at = ""
        self.drop_reason = "the API did not answer"  # why lines are dropped, if they are
        self._tails = Tails(tail_lines)

    def __len__(self) -> int:
        lines = len(self._head) + len(self._end)
        return lines or int(self._dropped > 0)  # a note

    @property
    def is_full(self) -> bool:
        """Return whether reading should pause; the rest of the memory is for reads under way."""
        return len(self) >= MAX_UNSENT_LINES // 2 or self._bytes >= MAX_UNSENT_BYTES // 2

    @property
    def has_full_batch(self) -> bool:
        """Return whether the next report would be full."""
        return len(self) >= MAX_BATCH_LINES or self._bytes >= MAX_BATCH_BYTES

    @property
    def can_spool(self) -> bool:
        """Return whether lines that memory has no room for are kept."""
        return self._spool is not None and self._spool.works

    def add(self, line: Line, *, redrawn: bool = False) -> None:
        """Add a line, or a piece of one; `redrawn` as in `Piece`."""
        self._tails.add(line, redrawn=redrawn)
        self._last_at = line.at
        size = size_of(line)
        if self._head_room > 0:
            self._head_room -= size
            self._head.append(line, size)
        else:
            self._end.append(line, size)
            self._leave_out()
        while self._is_over_memory:
            self._dropped += (self._head.pop() or self._end.pop()) is not None

    def take_batch(self) -> list[Line]:
        """Remove and return the next batch, oldest first, with a note where lines were dropped."""
        batch: list[Line] = []
        size = self._take(self._head, batch, 0)
        if not batch:
            self._left_out_before_batch, self._left_out = self._left_out, (0, 0)
        if not self._left_out[0]:
            self._take(self._end, batch, size)
        for queue in (self._head, self._end):
            if queue.lost:
                self._dropped += queue.lost
                self.drop_reason = "the instance's disk has lost them"
                queue.lost = 0
        if self._dropped:
            disk = "" if self.can_spool or self._spool is None else ", and its disk took no more"
            note = f"[docker-job: {self._dropped} lines dropped, {self.drop_reason}{disk}]"
            at = batch[0].at if batch else self._last_at
            batch.insert(0, Line(at, OWN_STREAM, note))
            self._dropped = 0
        return batch

    def take_left_out(self) -> dict[str, int] | None:
        """Return, once, how much was left out just before the last batch."""
        (lines, size), self._left_out_before_batch = self._left_out_before_batch, (0, 0)
        return {"lines": lines, "bytes": size} if lines else None

    def record_lost(self, lines: int, reason: str) -> None:
        """Count lines of a batch that the API has not kept."""
        self._dropped += lines
        self.drop_reason = reason

    def tail(self) -> list[str]:
        """Return the last lines, for an error message."""
        return self._tails.lines()

    @property
    def _bytes(self) -> int:
        return self._head.bytes + self._end.bytes

    @property
    def _is_over_memory(self) -> bool:
        lines = self._head.lines_in_memory + self._end.lines_in_memory
        size = self._head.bytes_in_memory + self._end.bytes_in_memory
        return lines > MAX_UNSENT_LINES or size > MAX_UNSENT_BYTES

    def _leave_out(self) -> None:
        while self._end.bytes > self._limit and (oldest := self._end.oldest()):
            size = size_of(oldest)
            if self._end.bytes - size < self._limit:
                return
            self._end.pop()
            lines, left_out = self._left_out
            self._left_out = (lines + 1, left_out + size)

    @staticmethod
    def _take(queue: LineQueue, batch: list[Line], size: int) -> int:
        while len(batch) < MAX_BATCH_LINES and size < MAX_BATCH_BYTES and (line := queue.pop()):
            size += size_of(line)
            batch.append(line)
        return size
