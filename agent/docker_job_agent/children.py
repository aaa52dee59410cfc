"""Child processes: containers' clients, and this file in another role."""

from __future__ import annotations

import contextlib
import math
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import IO

from .errors import CouldNotRunError
from .lines import LineReader
from .redraw import Piece

READ_BYTES = 16 * 1024
SILENCE_SECONDS = 5.0  # after the exit: what holds the pipes then is another process
LAST_OUTPUT_SECONDS = 60.0  # after the exit: at most, for all that is in the pipes


class Child:
    """A child process whose output is read line by line, in threads of its own.

    A line that it has not ended is passed on too when it waits (see `LineReader`).

    It gets a session of its own: a signal to the agent's group reaches the agent alone, which then
    decides about the container. While `wait_for_room` waits, its output is not read.
    """

    def __init__(
        self,
        command: list[str],
        environment: dict[str, str],
        on_line: Callable[[str, Piece], None],
        on_exit: Callable[[], None],
        stdin: int = subprocess.DEVNULL,
        wait_for_room: Callable[[Callable[[], bool]], None] | None = None,
    ) -> None:
        try:
            self._process = subprocess.Popen(  # an argument list, never a shell
                command,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise CouldNotRunError(f"{command[0]} could not be started: {error}") from None
        self._on_line = on_line
        self._on_exit = on_exit
        self._wait_for_room = wait_for_room
        self.exited = False
        self.last_output_at = time.monotonic()
        self.stdin = self._process.stdin
        self._readers = [
            threading.Thread(target=self._read, args=(pipe, name), daemon=True)
            for pipe, name in ((self._process.stdout, "stdout"), (self._process.stderr, "stderr"))
        ]
        for reader in self._readers:
            reader.start()
        threading.Thread(target=self._await_exit, daemon=True).start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int:
        """Exit code as a shell gives it: 128 + signal if a signal killed it."""
        code = self._process.returncode
        return 128 - code if code < 0 else code

    def send(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        with contextlib.suppress(OSError):
            self._process.send_signal(number)

    def _read(self, pipe: IO[bytes], stream: str) -> None:
        lines = LineReader()
        readable = select.poll()
        readable.register(pipe, select.POLLIN)  # and the end, which needs no bit
        with pipe:
            while True:
                pieces: list[Piece] = []
                due_in = lines.seconds_until_due(time.monotonic())
                if readable.poll(None if due_in is None else math.ceil(1000 * due_in)):
                    data = os.read(pipe.fileno(), READ_BYTES)
                    if not data:
                        break
                    self.last_output_at = time.monotonic()
                    pieces = lines.feed(data, self.last_output_at)
                for piece in [*pieces, *lines.take_due(time.monotonic())]:
                    self._on_line(stream, piece)
                if self._wait_for_room is not None:
                    # Once it has ended, its pipes hold little, which is read at once.
                    self._wait_for_room(lambda: self._process.returncode is not None)
                    self.last_output_at = time.monotonic() if pieces else self.last_output_at
        for piece in lines.close():
            self._on_line(stream, piece)

    def _await_exit(self) -> None:
        self._process.wait()
        self._await_readers()
        self.exited = True
        self._on_exit()

    def _await_readers(self) -> None:
        """Wait until all output is read, as long as some comes.

        A process that it left behind may hold its pipes open, and may print without end.
        """
        ended_at = time.monotonic()
        for reader in self._readers:
            reader.join(SILENCE_SECONDS)
            while reader.is_alive() and self._brings_output(ended_at):
                reader.join(1.0)

    def _brings_output(self, ended_at: float) -> bool:
        now = time.monotonic()
        is_silent = now - max(self.last_output_at, ended_at) >= SILENCE_SECONDS
        return not is_silent and now - ended_at < LAST_OUTPUT_SECONDS


def this_file(*arguments: str) -> list[str]:
    """Return the command that runs this file in another role, whatever its environment."""
    # A module's path in the built file is FILE/docker_job_agent/<module>.py.
    archive = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return [sys.executable, "-I", "-S", archive, *arguments]
