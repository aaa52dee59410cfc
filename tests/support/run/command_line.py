"""The command `docker-job` as its users have it: with pipes, or on a pseudo-terminal."""

import contextlib
import fcntl
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[3]
COMMAND = [sys.executable, "-m", "docker_job"]
ON_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)
"""Makes standard input the terminal that controls the process: Ctrl-C is a signal then."""

SEQUENCE = re.compile(r"\x1b\[[0-9;?]*([A-Za-z])")
SECONDS = 60


class CommandLine:
    """Runs `docker-job` for the API at *address*, with a home directory of its own."""

    def __init__(self, address: str, home: Path, **environ: str) -> None:
        self.home = home
        kept = {name: value for name, value in os.environ.items() if "DOCKER_JOB" not in name}
        self.environ = {
            **{name: kept[name] for name in kept if name not in ("NO_COLOR", "COLUMNS", "LINES")},
            "DOCKER_JOB_URL": address,
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / ".config"),
            "PYTHONPATH": str(ROOT / "client"),
            "TERM": "xterm-256color",
            **environ,
        }

    def run(
        self, *arguments: str, stdin: str = "", seconds: float = SECONDS, **environ: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run it with pipes to its end."""
        return subprocess.run(
            [*COMMAND, *arguments],
            env=self.environ | environ,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    @contextlib.contextmanager
    def piped(self, *arguments: str, **environ: str) -> Iterator["Piped"]:
        """Start it with pipes; it is ended when the block is left."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            piped = Piped([*COMMAND, *arguments], self.environ | environ, out, err)
            try:
                yield piped
            finally:
                piped.end()

    @contextlib.contextmanager
    def terminal(self, *arguments: str, columns: int = 120, **environ: str) -> Iterator["Terminal"]:
        """Start it on a terminal; it is ended when the block is left."""
        terminal = Terminal([*COMMAND, *arguments], self.environ | environ, columns)
        try:
            yield terminal
        finally:
            terminal.end()


class Started:
    """A process that was started, and what it has written."""

    process: "subprocess.Popen[bytes]"

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def wait(self, seconds: float = SECONDS) -> int:
        """Wait for its end; return the exit code."""
        return self.process.wait(seconds)

    def end(self) -> None:
        """End it, however the test left it."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


class Piped(Started):
    """Standard output and standard error of a process, each in a file that it appends to."""

    def __init__(
        self, command: list[str], environ: dict[str, str], out: IO[bytes], err: IO[bytes]
    ) -> None:
        self._out, self._err = out, err
        self.process = subprocess.Popen(
            command, env=environ, stdin=subprocess.DEVNULL, stdout=out, stderr=err
        )

    @property
    def out(self) -> str:
        """What it has written to standard output."""
        return _content(self._out.fileno())

    @property
    def err(self) -> str:
        """What it has written to standard error."""
        return _content(self._err.fileno())

    def until(self, text: str) -> None:
        """Wait until it has written *text*, to either."""
        until(lambda: text in self.out + self.err, SECONDS, f"{text!r} in {self.out}{self.err}")


class Terminal(Started):
    """A process on a pseudo-terminal, which shows what both of its outputs print."""

    def __init__(self, command: list[str], environ: dict[str, str], columns: int) -> None:
        self._master, slave = os.openpty()
        self.resize(columns)
        self.process = subprocess.Popen(
            [sys.executable, "-c", ON_TERMINAL, *command],
            env=environ,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.bytes = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def resize(self, columns: int) -> None:
        """Change the window."""
        size = struct.pack("HHHH", 40, columns, 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    def press(self, keys: str) -> None:
        r"""Type *keys*; `\x03` is Ctrl-C."""
        os.write(self._master, keys.encode())

    @property
    def lines(self) -> list[str]:
        """The lines that a user sees, without what was erased or overwritten."""
        return shown(self.bytes.decode(errors="replace"))

    @property
    def text(self) -> str:
        """The same as one text."""
        return "\n".join(self.lines)

    def until(self, text: str) -> None:
        """Wait until *text* is seen."""
        until(lambda: text in self.text, SECONDS, f"{text!r} in:\n{self.text}")

    def wait(self, seconds: float = SECONDS) -> int:
        """Wait for its end, and for all that it has written."""
        code = super().wait(seconds)
        self._reader.join(10)
        return code

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the last user of the terminal is gone
            while data := os.read(self._master, 65_536):
                self.bytes += data

    def end(self) -> None:
        """End it, however the test left it."""
        super().end()
        self._reader.join(10)
        os.close(self._master)


def shown(text: str) -> list[str]:
    """Render what was written to a terminal: carriage returns and "erase to the end" count."""
    lines, line, column, at = [], "", 0, 0
    while at < len(text):
        if sequence := SEQUENCE.match(text, at):
            at = sequence.end()
            if sequence[1] == "K":
                line = line[:column]
            continue
        character = text[at]
        at += 1
        if character == "\n":
            lines.append(line.rstrip())
            line, column = "", 0
        elif character == "\r":
            column = 0
        else:
            line = f"{line[:column]}{character}{line[column + 1 :]}"
            column += 1
    return [*lines, line.rstrip()]


def _content(file: int) -> str:
    size = os.fstat(file).st_size
    return os.pread(file, size, 0).decode(errors="replace")
