"""A queue of lines: the oldest and the newest in memory, those between them on the disk."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from .lines import Line, size_of
from .spool import Place, Spool

MAX_BATCH_LINES = 1000
MAX_BATCH_BYTES = 128 * 1024
MAX_FRONT_LINES = 25_000
MAX_FRONT_BYTES = 1024 * 1024


class Block(NamedTuple):
    """Lines of one batch's size; `lines` is None if they are on the disk."""

    length: int
    size: int
    lines: list[Line] | None
    place: Place | None


class LineQueue:
    """Lines, oldest first. Beyond a bound in memory they go to the disk, where that has room."""

    def __init__(self, spool: Spool | None) -> None:
        self._spool = spool
        self._front: deque[Line] = deque()
        self._blocks: deque[Block] = deque()
        self._back: list[Line] = []
        self._back_bytes = 0
        self._count = 0
        self.bytes = 0
        self.lines_in_memory = 0
        self.bytes_in_memory = 0
        self.lost = 0  # lines that the disk has lost

    def __len__(self) -> int:
        return self._count

    def append(self, line: Line, size: int) -> None:
        """Add the newest line, of `size` bytes."""
        self._count += 1
        self.bytes += size
        self.lines_in_memory += 1
        self.bytes_in_memory += size
        front_is_full = (
            self.lines_in_memory > MAX_FRONT_LINES or self.bytes_in_memory > MAX_FRONT_BYTES
        )
        if not (front_is_full or self._back or self._blocks):
            self._front.append(line)
            return
        self._back.append(line)
        self._back_bytes += size
        if len(self._back) >= MAX_BATCH_LINES or self._back_bytes >= MAX_BATCH_BYTES:
            self._store_back()

    def oldest(self) -> Line | None:
        """Return the oldest line; None if there is none."""
        while not self._front and self._count:
            self._fill_front()
        return self._front[0] if self._front else None

    def pop(self) -> Line | None:
        """Remove and return the oldest line; None if there is none."""
        line = self.oldest()
        if line is not None:
            self._front.popleft()
            self._remove(1, size_of(line), in_memory=True)
        return line

    def _store_back(self) -> None:
        lines, size = self._back, self._back_bytes
        place = self._spool.write(lines) if self._spool else None
        self._blocks.append(Block(len(lines), size, None if place else lines, place))
        if place:
            self.lines_in_memory -= len(lines)
            self.bytes_in_memory -= size
        self._back, self._back_bytes = [], 0

    def _fill_front(self) -> None:
        if not self._blocks:
            self._front.extend(self._back)
            self._back, self._back_bytes = [], 0
            return
        block = self._blocks.popleft()
        if block.lines is not None:
            self._front.extend(block.lines)
            return
        lines = self._spool.read(block.place) if self._spool and block.place else []
        self._front.extend(lines)
        if lines:
            self.lines_in_memory += block.length
            self.bytes_in_memory += block.size
        else:
            self.lost += block.length
            self._remove(block.length, block.size, in_memory=False)

    def _remove(self, count: int, size: int, *, in_memory: bool) -> None:
        self._count -= count
        self.bytes -= size
        if in_memory:
            self.lines_in_memory -= count
            self.bytes_in_memory -= size
