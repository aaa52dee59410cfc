"""Standard output and standard error while a job is followed, and a live line below them.

The container's bytes go out as they are; on a terminal it may colour and rewrite its line, and
command nothing else. Ours go to standard error. The live line is the last one on a terminal: it is
erased before anything else is written and drawn again behind it, and it waits while the container's
line has no end. Where standard error is no terminal there is no live line, and no control sequence
is written.
"""

import os
import sys
from typing import BinaryIO

from docker_job.cli.output.render import cut
from docker_job.cli.terminal import escaped_log, safe

ERASE = b"\r\x1b[K"
NO_WRAP, WRAP = b"\x1b[?7l", b"\x1b[?7h"
"""Around the live line: of one that is too long for a narrowed window the rest is not shown."""

CODES = {"green": 32, "red": 31, "yellow": 33, "blue": 34, "magenta": 35, "bright_black": 90}


class Screen:
    """Standard output and standard error, and the live line below them."""

    def __init__(
        self, out: BinaryIO, err: BinaryIO, *, quiet: bool = False, colour: bool | None = None
    ) -> None:
        self._files = {"stdout": out, "stderr": err}
        self._err = err
        self._quiet = quiet
        self.live = not quiet and err.isatty() and os.environ.get("TERM") != "dumb"
        wanted = "NO_COLOR" not in os.environ if colour is None else colour
        self._colour = self.live and wanted
        shared = [file for file in (out, err) if file.isatty()]
        self._terminals = {name for name, file in self._files.items() if file in shared}
        self._open_line: set[str] = set()
        """The streams whose last line has no end yet."""
        self._drawn = False

    @classmethod
    def of_process(cls, *, quiet: bool = False, colour: bool | None = None) -> "Screen":
        """Make the screen of this process."""
        return cls(sys.stdout.buffer, sys.stderr.buffer, quiet=quiet, colour=colour)

    @property
    def is_mid_line(self) -> bool:
        """Return whether the terminal's last line is the container's and has no end yet."""
        return bool(self._open_line & self._terminals)

    def output(self, stream: str, data: bytes) -> None:
        """Write what a container printed to "stdout" or "stderr"."""
        if not data:
            return
        self._erase()
        shown = data
        if stream in self._terminals:
            shown = escaped_log(data.decode(errors="replace")).encode()
        self._write(self._files[stream], shown)
        if data.endswith(b"\n"):
            self._open_line.discard(stream)
        else:
            self._open_line.add(stream)

    def end_line(self) -> None:
        """End the container's line on the terminal, so that ours can be drawn below it."""
        self._write(self._err, b"\n")
        self._open_line -= self._terminals

    def note(self, text: str, colour: str | None = None) -> None:
        """Write a line of ours. Names and messages in it are others': they command no terminal."""
        if self._quiet:
            return
        self._erase()
        if self.live and self.is_mid_line:
            self.end_line()
        self._write(self._err, self._painted(safe(text), colour) + b"\n")

    def draw(self, text: str | None, colour: str | None = None) -> None:
        """Draw the live line anew; None: there is none now."""
        if not self.live or self.is_mid_line:
            return
        if text is None:
            self._erase()
            return
        line = cut(safe(text), max(1, self._columns() - 1))
        self._write(self._err, ERASE + NO_WRAP + self._painted(line, colour) + WRAP)
        self._drawn = True

    def _erase(self) -> None:
        if self._drawn:
            self._drawn = False
            self._write(self._err, ERASE)

    def _painted(self, text: str, colour: str | None) -> bytes:
        encoded = text.encode(errors="replace")
        if not self._colour or colour not in CODES:
            return encoded
        # The symbol alone: words are read in the terminal's own colour.
        symbol, space, rest = text.strip(" ").partition(" ")
        return f" \x1b[{CODES[colour]}m{symbol}\x1b[0m{space}{rest}".encode(errors="replace")

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._err.fileno()).columns or 80
        except OSError:
            return 80

    def _write(self, file: BinaryIO, data: bytes) -> None:
        try:
            file.write(data)
            file.flush()
        except BrokenPipeError:
            raise
        except OSError:
            # The terminal was closed: what it would have shown is shown to nobody.
            if file is not self._err:
                raise
