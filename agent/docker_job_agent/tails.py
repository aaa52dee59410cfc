"""The last lines of the output, for an error message."""

from __future__ import annotations

import re
from collections import deque

from .lines import Line

MAX_LINE_CHARACTERS = 2000  # of a line in an error message: others have room beside it

# CSI and OSC sequences, other escape sequences, then control characters but tab and newline, and
# characters that change the direction of a text.
_UNPRINTABLE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-~]"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)
_NO_ERROR = re.compile(r"warn|deprecat|\b(?:info|debug|trace|notice)\b", re.IGNORECASE)


def printable(text: str) -> str:
    """Return a text without control characters and sequences (colours and the like)."""
    return _UNPRINTABLE.sub("", text)


def _shortened(line: str) -> str:
    if len(line) <= MAX_LINE_CHARACTERS:
        return line
    half = MAX_LINE_CHARACTERS // 2 - 1
    return f"{line[:half]} … {line[-half:]}"


class Tail:
    """The last lines of one stream that are not blank, whole and printable."""

    def __init__(self, lines: int) -> None:
        self._lines: deque[tuple[str, bool]] = deque(maxlen=max(1, lines))  # and if it was redrawn
        self._text = ""

    def add(self, text: str, *, ended: bool, redrawn: bool) -> None:
        """Add a piece; of a long line only the beginning and the end are kept."""
        if text.startswith("\r"):
            self._text = ""
        self._text = _shortened(self._text + text)
        if not ended:
            return
        line, self._text = self._text, ""
        if not line.isprintable():
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
    nothing at all, the reason may be in stdout: then its lines follow.
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
        return errors.lines() if errors.may_say_why() else [*errors.lines(), *output.lines()]
