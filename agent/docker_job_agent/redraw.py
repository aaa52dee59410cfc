"""The line that a program is printing, as a terminal shows it: no I/O, no clock.

Programs redraw a line (a progress bar, a counter) with a carriage return, or with the control
sequences CHA (`ESC [ G`, `ESC [ 1 G`: to the beginning of the line), CUB (`ESC [ 1000 D`: by 100
columns or more to the left, which is the beginning too) and EL (`ESC [ K`: erase in the line). What
is printed at the beginning of the line replaces all of it, as these programs mean it, though a
terminal would keep the end of a longer text. All other control characters and sequences (colours,
backspaces, movements to other lines) are data. The sequences are those of ECMA-48.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_PIECE_BYTES = 16 * 1024
SPLIT = "split"  # the line is too long: the next piece of the stream is its next part
UNFINISHED = "unfinished"  # the program has not ended the line yet
ESCAPE = "\x1b"

_REDRAWS = re.compile(r"\r+|\x1b\[[01]?G|\x1b\[[1-9][0-9]{2,}D|\x1b\[[0-2]?K")
_INVISIBLE = re.compile(r"(?:\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x1f\x7f])*")
_INCOMPLETE = re.compile(r"\x1b(?:\[[0-9;?]*)?")
_MAX_INCOMPLETE = 20  # characters


class Piece(NamedTuple):
    """A line, or a part of one.

    `continues` is None at the end of the line, else `SPLIT` or `UNFINISHED`. A text that begins
    with a carriage return replaces what the line's pieces before it show. `redrawn`: the line is
    one that was redrawn.
    """

    text: str
    continues: str | None = None
    redrawn: bool = False


class OpenLine:
    """The part of a line that is not in a piece yet, of bounded length."""

    def __init__(self) -> None:
        self._text = ""
        self._incomplete = ""  # the beginning of a control sequence
        self._shown = ""  # by the unfinished pieces so far
        self._has_pieces = False
        self._returned = False  # what follows is at the beginning of the line: it replaces all
        self._invisible = ""  # control sequences since that return: of what follows
        self._replaces = False  # `_text` replaces what the pieces so far show
        self._redrawn = False

    @property
    def has_news(self) -> bool:
        """Return whether an unfinished piece would show anything new."""
        if self._replaces and self._has_pieces:
            return self._text != self._shown
        return bool(self._text)

    @property
    def is_untouched(self) -> bool:
        """Return whether nothing of the line has come."""
        return not (self._text or self._incomplete or self._has_pieces or self._returned)

    def write(self, text: str) -> list[Piece]:
        """Add text without a newline; return the pieces that are full."""
        if self._returned or "\r" in text or ESCAPE in text or self._incomplete:
            self._draw(self._complete(text))
        else:
            self._text += text
        return self._take_full()

    def show(self) -> Piece:
        """Return what is new of the line, which goes on."""
        return self._take(UNFINISHED)

    def end(self) -> Piece:
        """Return the rest of the line, which ends here."""
        self._text += self._invisible + self._incomplete
        return self._take(None)

    def _complete(self, text: str) -> str:
        """Return the text up to a control sequence that is not complete; keep that for later."""
        text = self._incomplete + text
        start = text.rfind(ESCAPE, max(0, len(text) - _MAX_INCOMPLETE))
        if start < 0 or not _INCOMPLETE.fullmatch(text, start):
            start = len(text)
        self._incomplete = text[start:]
        return text[:start]

    def _draw(self, text: str) -> None:
        # Fast for a bar that is redrawn without end: all before its last state is overwritten.
        start = text.rfind("\r", 0, len(text.rstrip("\r")))
        if start > 0 and _is_visible(text[start:].rstrip("\r")):
            self._erase()
            self._redrawn = True
            text = text[start:]
        position = 0
        for control in _REDRAWS.finditer(text):
            self._put(text[position : control.start()])
            self._apply(control[0])
            position = control.end()
        self._put(text[position:])

    def _put(self, text: str) -> None:
        if not self._returned:
            self._text += text
        elif _is_visible(text):
            self._redrawn = self._redrawn or bool(self._text) or self._has_pieces
            self._erase()
            self._text = self._invisible + text
            self._returned, self._invisible = False, ""
        else:
            self._invisible = (self._invisible + text)[-MAX_PIECE_BYTES // 4 :]

    def _apply(self, control: str) -> None:
        if not control.endswith("K"):  # a return alone erases nothing
            self._text = _without_erasures_at_end(self._text) + self._invisible
            self._returned, self._invisible = True, ""
            return
        to_end, to_start = control[2:-1] in ("", "0"), control[2:-1] == "1"
        if (to_start and self._returned) or (to_end and not self._returned):
            self._text += control if to_end else ""  # there is nothing to erase
        else:
            self._erase()

    def _erase(self) -> None:
        self._text = ""
        self._replaces = True

    def _take_full(self) -> list[Piece]:
        text, start, pieces = self._text, 0, []
        while (end := start + _fitting(text, start, len(self._mark()))) < len(text):
            self._text = text[start:end]
            pieces.append(self._take(SPLIT))
            start = end
        self._text = text[start:]
        return pieces

    def _mark(self) -> str:
        return "\r" if self._replaces and self._has_pieces else ""

    def _take(self, continues: str | None) -> Piece:
        text = self._mark() + self._text
        if self._replaces and self._has_pieces and self._text == self._shown:
            text = ""
        self._shown = self._text if self._replaces else self._shown + self._text
        self._shown = self._shown if len(self._shown) <= MAX_PIECE_BYTES else ""
        self._text, self._replaces, self._has_pieces = "", False, True
        return Piece(text, continues, self._redrawn)


def _is_visible(text: str) -> bool:
    """Return whether a text has anything but control characters and sequences."""
    invisible = _INVISIBLE.match(text)
    return invisible is None or invisible.end() < len(text)


def _without_erasures_at_end(text: str) -> str:
    while text.endswith(("\x1b[K", "\x1b[0K")):
        text = text[: text.rindex(ESCAPE)]
    return text


def _fitting(text: str, start: int, reserved: int) -> int:
    """Return how many characters from `start` on fit into one piece, in UTF-8."""
    if (len(text) - start) * 4 + reserved <= MAX_PIECE_BYTES:
        return len(text) - start
    most = MAX_PIECE_BYTES - reserved
    part = text[start : start + most]
    encoded = part.encode("utf-8", "replace")
    return len(part) if len(encoded) <= most else len(encoded[:most].decode("utf-8", "ignore"))
