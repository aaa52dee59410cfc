"""Output of these programs: reasons of AWS and lines of consoles cannot command a terminal."""

import io
import re
import sys
from typing import TextIO

# As shared/terminal.py, which deploy/ does not import. A carriage return is ours where it comes
# first: progress writes its line again.
CONTROL = re.compile(
    r"(?!\A\r)[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff"
    r"\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


class EscapedText(io.TextIOWrapper):
    """A text stream that escapes control characters."""

    def write(self, text: str) -> int:
        """Write *text*, escaped."""
        super().write(CONTROL.sub(_escaped, text))
        return len(text)


def protect_terminal() -> None:
    """Escape whatever this process prints: results, errors and tracebacks."""
    sys.stdout, sys.stderr = _protected(sys.stdout), _protected(sys.stderr)


def _protected(stream: TextIO) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.flush()
    return EscapedText(stream.buffer, stream.encoding, stream.errors, line_buffering=True)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
