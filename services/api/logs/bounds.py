"""The bound of an attempt's log: its beginning and its end are kept. Pure.

    first half of the bound     the end, as much as the bound has left
    ├── log_batches ──┤  ……  ├── log_tails ──┤

The beginning is never deleted. Of the end the oldest batches are deleted as new ones arrive, and
one line between the two says how much was left out.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from msgspec import Struct

from services.api.jobs.model import Attempt

Continues = Literal["unfinished", "split"]


class Line(NamedTuple):
    """A line of a log, or a piece of one.

    `at` is an ISO 8601 time, `stream` is "stdout", "stderr" or "docker-job". `continues` says how
    the next line of the same stream and attempt goes on with this one. "unfinished": shown before
    its end; the next piece is appended, or replaces it if it begins with a carriage return.
    "split": longer than a piece may be. None: the line has ended.
    """

    at: str
    stream: str
    text: str
    continues: Continues | None = None


LOG_SOURCE = "docker-job"
"""The stream of lines that the container did not print."""


class Amount(Struct, frozen=True):
    """A part of a log; a line's bytes are those of its text in UTF-8 and one for its end."""

    bytes: int = 0
    lines: int = 0

    def plus(self, lines: Sequence[Line]) -> "Amount":
        """Add *lines*."""
        return Amount(self.bytes + sum(map(size_of, lines)), self.lines + len(lines))


class Kept(Struct, frozen=True, kw_only=True):
    """The part of a batch that is kept in an attempt's log.

    `tail` is None if all of the batch belongs to the beginning. Else it starts at `tail_start` of
    the whole log, and older batches of the end that start before `keep_from` bytes are deleted.
    """

    head: list[Line]
    head_size: Amount
    tail: list[Line] | None
    tail_start: Amount
    keep_from: int
    total: Amount


def decide_kept(attempt: Attempt, lines: Sequence[Line], left_out: Amount, limit: int) -> Kept:
    """Decide which part of a batch is kept, within *limit* bytes an attempt.

    *left_out*: the amount that the agent dropped just before these lines, as newer ones alone fill
    the bound.
    """
    start = Amount(attempt.log_bytes + left_out.bytes, attempt.log_lines + left_out.lines)
    total = start.plus(lines)
    head: list[Line] = []
    if start.bytes == attempt.log_head_bytes:  # nothing was left out, and no end has begun
        head = _fitting(lines, limit // 2 - attempt.log_head_bytes)
    head_size = Amount().plus(head)
    rest = lines[len(head) :]
    # The end has its half even if a beginning was kept under a larger bound.
    room = max(limit - attempt.log_head_bytes - head_size.bytes, limit - limit // 2)
    tail = _fitting(rest[::-1], room)[::-1]
    tail_size = Amount().plus(tail)
    tail_start = Amount(total.bytes - tail_size.bytes, total.lines - tail_size.lines)
    return Kept(
        head=head,
        head_size=head_size,
        tail=tail if rest else None,
        tail_start=tail_start,
        # One gap and not two: the end before the agent's own omission is left out too.
        keep_from=tail_start.bytes if left_out.bytes else total.bytes - room,
        total=total,
    )


def gap_line(at: datetime, gap: Amount | None) -> Line:
    """Make the line in place of the *gap* that was left out; None: an unknown amount."""
    what = "some lines" if gap is None else f"{gap.lines} lines ({gap.bytes} bytes)"
    text = f"--- {what} left out here: of a long log the beginning and the end are kept ---"
    return Line(at.isoformat(), LOG_SOURCE, text)


def removal_line(at: datetime) -> Line:
    """Make the line in place of a log that was removed *at* a time."""
    return Line(at.isoformat(), LOG_SOURCE, f"--- this log was removed on {at:%Y-%m-%d} ---")


def size_of(line: Line) -> int:
    """Return the bytes that a line counts: its text and its end."""
    return len(line.text.encode()) + 1


def _fitting(lines: Iterable[Line], room: int) -> list[Line]:
    """Return the first of *lines*, as many as fit into *room* bytes."""
    kept: list[Line] = []
    for line in lines:
        room -= size_of(line)
        if room < 0:
            break
        kept.append(line)
    return kept
