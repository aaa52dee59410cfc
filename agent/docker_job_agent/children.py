"""Child processes: containers' clients, and this file in another role."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import IO

from .errors import CouldNotRunError
from .logs import LineReader

READ_BYTES = 16 * 1024


class Child:
    """A child process whose output is read line by line, in threads of its own.

    It gets a session of its own: a signal to the agent's group reaches the agent alone, which then
    decides about the container. While `wait_for_room` waits, its output is not read.
    """

    def __init__(
        self,
        command: list[str],
        environment: dict[str, str],
        on_line: Callable[[str, str], None],
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
        with pipe:
            while data := os.read(pipe.fileno(), READ_BYTES):
                self.last_output_at = time.monotonic()
                for text in lines.feed(data):
                    self._on_line(stream, text)
                if self._wait_for_room is not None:
                    # Once it has ended, its pipes hold little, which is read at once.
                    self._wait_for_room(lambda: self._process.returncode is not None)
        for text in lines.close():
            self._on_line(stream, text)

    def _await_exit(self) -> None:
        self._process.wait()
        for reader in self._readers:  # all output is read before the exit is reported
            reader.join(5.0)
        self.exited = True
        self._on_exit()


def this_file(*arguments: str) -> list[str]:
    """Return the command that runs this file in another role, whatever its environment."""
    # A module's path in the built file is FILE/docker_job_agent/<module>.py.
    archive = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return [sys.executable, "-I", "-S", archive, *arguments]
