"""The system under rehearsal: `python -m embedded.run`, in a temporary directory."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from embedded.database import POSTGRES
from embedded.postgres import EmbeddedPostgres
from embedded.postgres_host import choose_socket_dir

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 90.0
STOP_SECONDS = 20.0
STEP_SECONDS = 0.1
CALL_SECONDS = 10.0
TAIL_LINES = 15


class NotRunning(Exception):
    """The system did not start, or has ended. The message has the end of its log."""


class System:
    """One embedded system. `close` removes its directory, unless `keep` is set."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="docker-job-rehearse-"))
        # As root the embedded Postgres runs as another user, who must be able to enter.
        self.directory.chmod(0o711)
        self.data = self.directory / "data"
        self.log = self.directory / "log"
        self.keep = False
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._environment: dict[str, str] = {}

    def start(self, environment: dict[str, str]) -> None:
        """Start the process; return when the API is ready. Raises `NotRunning`."""
        self._environment = environment
        kept = {name: value for name, value in os.environ.items() if not _is_ours(name)}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "embedded.run"],
                cwd=ROOT,
                env={**kept, **self.environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise NotRunning(f"the system did not start:\n{self._log_tail()}")
            time.sleep(STEP_SECONDS)

    def start_again(self) -> None:
        """Start it as before, on its data. Raises `NotRunning`."""
        self.start(self._environment)

    def stop(self) -> None:
        """Stop the process."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def close(self) -> None:
        """Stop the process, and remove its directory."""
        self.stop()
        EmbeddedPostgres(self.data / POSTGRES).stop()
        # It is outside of the directory where that would make a path too long for a socket.
        sockets = choose_socket_dir((self.data / POSTGRES).resolve())
        shutil.rmtree(sockets, ignore_errors=True)
        if not self.keep:
            shutil.rmtree(self.directory, ignore_errors=True)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Call the API; return the decoded answer. Raises `NotRunning` for an error."""
        request = urllib.request.Request(  # noqa: S310 - our own address
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=CALL_SECONDS) as answer:  # noqa: S310
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            body = error.read().decode(errors="replace")
            raise NotRunning(f"{method} {path} is answered {error.code}: {body}") from error
        except OSError as error:
            raise NotRunning(f"{method} {path}: {error}\n{self._log_tail()}") from error

    def environment(self) -> dict[str, str]:
        """Return what it was started with, for a program beside it: credentials, settings, data."""
        ours = {"DATA_DIR": str(self.data), "PORT": str(self.port)}
        return {**self._environment, **{f"DOCKER_JOB_{name}": each for name, each in ours.items()}}

    def admin_dsn(self) -> str:
        """Return the address of its database, while it runs."""
        return EmbeddedPostgres(self.data / POSTGRES).dsn()

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=CALL_SECONDS):  # noqa: S310
                return True
        except OSError:
            return False

    def _log_tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-TAIL_LINES:])


def _is_ours(name: str) -> bool:
    """Return True for settings and credentials of the environment, which are not passed on."""
    return name.startswith(("DOCKER_JOB_", "AWS_"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
