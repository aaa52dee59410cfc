"""A log as plain text: pieces of a line are joined, and a line says where an attempt begins. Pure.

A line that is shown before its end is held back, as its next piece may replace it; beyond
`MAX_HELD` characters it is given out as far as it goes.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from services.api.logs.bounds import LOG_SOURCE, Line
from services.api.logs.reader import LogPage

MAX_HELD = 65_536
SPLIT_MARK = " [line continues]"
"""At the end of each piece of a line that was split, but the last."""

_USUAL = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}\+00:00")
"""A time as agents send it. A log has many: to read and write each holds up other requests."""

_BOTH = frozenset({"stdout", "stderr"})


class PlainLog:
    """Renders the pages of one log, in their order, in bounded memory.

    *within*: the attempt in whose middle the first line may be, see `reader.Start`. *only*: the one
    attempt that is read. No line says where these begin.
    """

    def __init__(
        self, *, timestamps: bool = False, streams: bool = False, within: int = 0, only: int = 0
    ) -> None:
        self._timestamps = timestamps
        self._streams = streams
        self._attempt = within or only
        self._open: str | None = None
        """The stream of the line that is shown so far; None: the last line has ended."""
        self._held: list[str] = []
        """The part of this line that is not given out: first what stands before it."""
        self._size = 0
        self._given_out = False
        self._middle: set[str] = set(_BOTH) if within else set()
        """The streams whose next line may be the next piece of one."""

    def feed(self, pages: Iterable[LogPage]) -> str:
        """Return the text of the next pages, but for an unfinished line at their end."""
        return "".join(part for page in pages for part in self._page(page))

    def close(self) -> str:
        """Return the unfinished line at the end of the log."""
        return "".join(self._end())

    def _page(self, page: LogPage) -> Iterator[str]:
        if page.lines and page.attempt != self._attempt:
            yield from self._begin(page)
        if self._is_simple(page):
            yield "\n".join([line.text for line in page.lines] + [""])
            return
        for index, line in enumerate(page.lines):
            if index == page.gap_at:
                yield from self._end()
                self._middle = set(_BOTH)
            if self._open is None and line.continues is None and line.stream not in self._middle:
                yield f"{self._before(line)}{line.text}\n"
            else:
                yield from self._piece(line)

    def _is_simple(self, page: LogPage) -> bool:
        """Return whether all of its lines are whole and bare: nearly all pages are."""
        if self._timestamps or self._streams or self._middle or self._open is not None:
            return False
        return page.gap_at is None and not any(line.continues for line in page.lines)

    def _begin(self, page: LogPage) -> Iterator[str]:
        yield from self._end()
        self._middle.clear()
        self._attempt = page.attempt
        if page.attempt > 1:
            mark = Line(page.lines[0].at, LOG_SOURCE, f"--- attempt {page.attempt} ---")
            yield f"{self._before(mark)}{mark.text}\n"

    def _piece(self, line: Line) -> Iterator[str]:
        text = line.text
        if line.stream in self._middle and text.startswith("\r"):
            text = text[1:]
            if self._open == line.stream:
                yield from self._erase()
        if self._open != line.stream:
            yield from self._end()
            self._held, self._size = [self._before(line)], 0
            self._open = line.stream
        if text:
            self._held.append(text)
            self._size += len(text)
        if line.continues is None:
            self._middle.discard(line.stream)
            yield from self._end()
            return
        self._middle.add(line.stream)
        if line.continues == "split":
            yield from self._end(SPLIT_MARK)
        elif self._size > MAX_HELD:
            yield from self._give_out()

    def _give_out(self) -> Iterator[str]:
        yield from self._held
        self._held, self._size, self._given_out = [], 0, True

    def _erase(self) -> Iterator[str]:
        """Forget the line that is shown so far; what was given out of it stands by itself."""
        if self._given_out:
            yield from self._end()
        else:
            del self._held[1:]
            self._size = 0

    def _end(self, mark: str = "") -> Iterator[str]:
        if self._open is not None:
            yield from self._give_out()
            yield f"{mark}\n"
            self._open, self._given_out = None, False

    def _before(self, line: Line) -> str:
        time = f"{_timestamp(line.at)} " if self._timestamps else ""
        return f"{time}{line.stream} " if self._streams else time


def _timestamp(at: str) -> str:
    """Return the time in RFC 3339, in UTC and always as long, so that texts sort as times do."""
    if _USUAL.fullmatch(at):
        return f"{at[:-6]}Z"
    try:
        time = datetime.fromisoformat(at)
        time = time if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):  # of a year beyond those that can be converted
        return at
    return f"{time.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"
