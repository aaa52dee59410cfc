"""Text for a terminal: characters that would command it are shown instead of obeyed.

Names, messages and logs come from others, and a terminal obeys what it is sent: it moves the
cursor, sets its title, fills the clipboard (OSC 52) or shows a link that leads elsewhere (OSC 8).
Kubernetes had this as CVE-2021-25743, https://github.com/kubernetes/kubernetes/issues/101695.
A file or a pipe gets the bytes as they are, as from `docker logs`.
"""

import io
import re
import sys
from typing import IO, TextIO

# Controls but for tab and line feed; breaks of lines; marks that are invisible or turn the reading
# direction (Unicode's Bidi_Control, https://www.unicode.org/reports/tr9/); halves of surrogates.
CONTROL = (
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
COLOUR = "\x1b\\[[0-9;:]*m"
WITHIN_LINE = "\r|\x1b\\[[0-2]?K|\x1b\\[[01]?G|\x1b\\[[0-9]+D"
"""What a progress bar needs: it rewrites its own line, and no other."""

_CONTROL = re.compile(CONTROL)
_TEXT = re.compile(f"({COLOUR})|{CONTROL}")
_LOG = re.compile(f"({COLOUR}|{WITHIN_LINE})|{CONTROL}")


def safe(text: str) -> str:
    """Return one line in which a replacement character stands for what is not printable."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def escaped(text: str) -> str:
    r"""Return *text* with its control characters as `\x1b` or `\u202e`; colours stay."""
    return text if text.isascii() and text.isprintable() else _TEXT.sub(_shown, text)


def escaped_log(text: str) -> str:
    """Return a container's text so that it has colours and rewrites its line, and nothing more."""
    return text if text.isascii() and text.isprintable() else _LOG.sub(_shown, text)


def escaped_json(text: str) -> str:
    r"""Return JSON with its control characters as `\u009b`: the same value."""
    return text if text.isascii() and "\x7f" not in text else _CONTROL.sub(_as_json, text)


def _shown(found: re.Match[str]) -> str:
    if found[1] is not None:
        return found[1]
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _as_json(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x10000:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"


class TerminalText(io.TextIOWrapper):
    """A terminal as a text stream that escapes what is written to it."""

    def write(self, text: str) -> int:
        """Write *text*, escaped."""
        super().write(escaped(text))
        return len(text)


def protect_terminal() -> None:
    """Escape whatever this process writes to a terminal: results, errors, tracebacks, warnings."""
    sys.stdout, sys.stderr = _protected(sys.stdout), _protected(sys.stderr)


def _protected(stream: TextIO) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.reconfigure(errors="replace")  # a terminal that lacks a sign shows another
    if not stream.isatty():
        return stream
    stream.flush()
    return TerminalText(
        stream.buffer, stream.encoding, "replace", line_buffering=True, write_through=True
    )


def unprotected(stream: IO[str]) -> IO[str]:
    """Return the terminal behind *stream*, for a drawing that moves the cursor."""
    if not isinstance(stream, TerminalText):
        return stream
    return sys.__stdout__ or stream
