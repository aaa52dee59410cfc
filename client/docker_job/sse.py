"""Server-sent events, read piece by piece.

The format: https://html.spec.whatwg.org/multipage/server-sent-events.html. The bytes may be cut
anywhere; an event counts once the empty line behind it has come, and half an event never does.
"""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """An event: its name, its data (lines joined by line feeds) and the id to resume behind.

    `data` is None for a block that holds an id alone: it gives the position and nothing else.
    """

    kind: str
    data: str | None
    id: str


class EventParser:
    """Feed it bytes; it returns the events that they complete."""

    def __init__(self, last_id: str = "") -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
        self._text: list[str] = []
        self._after_return = False
        self._last_id = last_id
        self._clear()

    def feed(self, chunk: bytes) -> Iterator[ServerEvent]:
        """Return the events that *chunk* completes."""
        for line in self._lines(self._decoder.decode(chunk)):
            if line:
                self._field(line)
            elif (event := self._finish()) is not None:
                yield event

    def _lines(self, text: str) -> Iterator[str]:
        """Split at CR LF, LF and CR alone. A CR ends its line at once: an LF may follow later."""
        if self._after_return and text:
            text = text.removeprefix("\n")
            self._after_return = False
        self._after_return = self._after_return or text.endswith("\r")
        *ended, rest = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        for each in ended:
            self._text.append(each)
            yield "".join(self._text)
            self._text.clear()
        if rest:
            self._text.append(rest)

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._kind = value
        elif name == "id" and "\0" not in value:
            self._last_id = value
            self._has_id = True

    def _finish(self) -> ServerEvent | None:
        """Return the event that an empty line ends, None if it ended only comments."""
        found = None
        if self._data:
            found = ServerEvent(self._kind or "message", "\n".join(self._data), self._last_id)
        elif self._has_id:
            found = ServerEvent(self._kind or "message", None, self._last_id)
        self._clear()
        return found

    def _clear(self) -> None:
        self._kind = ""
        self._data: list[str] = []
        self._has_id = False
