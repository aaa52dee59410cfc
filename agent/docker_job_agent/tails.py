"""The last lines of the output, for an error message."""

from __future__ import annotations

import re
from collections import deque

from .errors import MAX_ERROR_CHARACTERS
from .lines import Line

MAX_LINE_CHARACTERS = 2000  # of a line in an error message: others have room beside it
MAX_OUTPUT_CHARACTERS = MAX_ERROR_CHARACTERS // 2  # of stdout, behind what stderr has

# CSI and OSC sequences, other escape sequences, then control characters but tab and newline, and
# those that break lines or turn the reading direction, as in `shared/terminal.py`.
_UNPRINTABLE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-~]"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\ufff9-\ufffb"
    r"\ud800-\udfff\U000e0000-\U000e007f]"
)
# To lines above, to a place of the screen, or back to a saved one: bars of several lines.
_MOVE = re.compile(r"\x1b(?:\[[0-9;]*[AFHfsu]|[78])")
_BACKSPACES = re.compile(r"(\x08+)")
_NO_ERROR = re.compile(r"warn|deprecat|\b(?:info|debug|trace|notice)\b", re.IGNORECASE)


def printable(text: str) -> str:
    """Return a text without control characters and sequences (colours and the like)."""
    return _UNPRINTABLE.sub("", text)


def _shortened(line: str) -> str:
    if len(line) <= MAX_LINE_CHARACTERS:
        return line
    half = MAX_LINE_CHARACTERS // 2 - 1
    return f"{line[:half]} … {line[-half:]}"


def _overwritten(text: str) -> str:
    """Return a text without what is overwritten after backspaces, which counters are drawn with.

    What follows them replaces all from there on, as after a carriage return (`redraw`). Those at
    the end overwrite nothing yet.
    """
    shown: list[str] = []
    back = 0
    for part in _BACKSPACES.split(text):
        if part.startswith("\b"):
            back = min(back + len(part), len(shown))
        elif visible := part if part.isprintable() else printable(part):
            del shown[len(shown) - back :]
            shown.extend(visible)
            back = 0
    return "".join(shown) + "\b" * back


def _last(lines: list[str], characters: int) -> list[str]:
    """Return the last of these lines, as many as fit."""
    kept = len(lines)
    while kept and characters > len(lines[kept - 1]):
        kept -= 1
        characters -= len(lines[kept]) + 1
    return lines[kept:]


class Tail:
    """The last lines of one stream that are not blank, whole and printable."""

    def __init__(self, lines: int) -> None:
        self._lines: deque[tuple[str, bool]] = deque(maxlen=max(1, lines))  # and if it was redrawn
        self._text = ""
        self._backspaced = False

    def add(self, text: str, *, ended: bool, redrawn: bool) -> None:
        """Add a piece; of a long line only the beginning and the end are kept."""
        if text.startswith("\r"):
            self._text = ""
        self._text += text
        if "\b" in self._text:
            self._text, self._backspaced = _overwritten(self._text), True
        self._text = _shortened(self._text)
        if not ended:
            return
        line, self._text = self._text, ""
        redrawn, self._backspaced = redrawn or self._backspaced, False
        if not line.isprintable():
            redrawn = redrawn or _MOVE.search(line) is not None
            line = printable(line)
        if line and not line.isspace():
            self._lines.append((line, redrawn))

    def lines(self) -> list[str]:
        """Return the lines, oldest first."""
        return [line for line, _ in self._lines]

    def may_say_why(self) -> bool:
        """Return whether a line is neither a progress bar nor a warning."""
        of_warning = False
        for line, redrawn in self._lines:
            # Python prints a line of the source, indented, after the warning about it.
            of_warning = _NO_ERROR.search(line) is not None or (of_warning and line[0].isspace())
            if not (redrawn or of_warning):
                return True
        return False


class Tails:
    """The last lines of both streams.

    Programs print errors to stderr. Where that has nothing but progress bars and warnings, or
    nothing at all, the reason may be in stdout: then its lines follow. They leave room for those
    of stderr: a warning may be the reason.
    """

    def __init__(self, lines: int) -> None:
        self._streams = {name: Tail(lines) for name in ("stdout", "stderr")}

    def add(self, line: Line, *, redrawn: bool) -> None:
        """Add a line, or a piece of one, of one of the container's streams."""
        if line.stream in self._streams:
            stream = self._streams[line.stream]
            stream.add(line.text, ended=line.continues is None, redrawn=redrawn)

    def lines(self) -> list[str]:
        """Return the lines for an error message."""
        errors, output = self._streams["stderr"], self._streams["stdout"]
        if errors.may_say_why():
            return errors.lines()
        return [*errors.lines(), *_last(output.lines(), MAX_OUTPUT_CHARACTERS)]
