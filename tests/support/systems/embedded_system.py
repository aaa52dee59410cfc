"""The embedded system as its user runs it: a process, an address, curl, a kill."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from embedded.postgres import EmbeddedPostgres
from tests.support.run.ports import free_port
from tests.support.run.state import ROOT, this_run
from tests.support.systems.api_client import ApiClient

__all__ = ["ROOT", "EmbeddedSystem"]

START_SECONDS = 60


class EmbeddedSystem(ApiClient):
    """`python -m embedded.run` on a data directory of its own, started and killed at will."""

    def __init__(self, **settings: str) -> None:
        this_run().start_keeper()  # which ends it if this worker does not
        self.data_dir = Path(tempfile.mkdtemp(prefix="docker-job-e2e-"))
        # The embedded Postgres of a root runs as another user, who must be able to pass through.
        self.data_dir.chmod(0o711)
        self.port = free_port()
        super().__init__(f"http://127.0.0.1:{self.port}")
        self.settings = {f"DOCKER_JOB_{name}": value for name, value in settings.items()}
        self.log = self.data_dir / "output.log"
        self.process: subprocess.Popen[str] | None = None
        self.block = ""

    def start(self, **more: str) -> str:
        """Start it and return the start block, which it prints when it is ready."""
        env = {
            **{name: value for name, value in os.environ.items() if "DOCKER_JOB" not in name},
            "DOCKER_JOB_DATA_DIR": str(self.data_dir / "data"),
            "DOCKER_JOB_PORT": str(self.port),
            **self.settings,
            **more,
        }
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "embedded.run"],
                cwd=ROOT,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self.block = self._read_block()
        return self.block

    def _read_block(self) -> str:
        assert self.process is not None
        assert self.process.stdout is not None
        # A start that hangs would block the read: the watchdog turns that into an end of file.
        watchdog = threading.Timer(START_SECONDS, self.process.kill)
        watchdog.start()
        lines: list[str] = []
        try:
            for line in self.process.stdout:
                lines.append(line)
                if "Ctrl-C stops it" in line:
                    return "".join(lines)
        finally:
            watchdog.cancel()
        raise AssertionError(f"it did not start:\n{''.join(lines)}\n{self.log.read_text()[-4000:]}")

    def kill(self) -> None:
        """Send `kill -9`: no `finally` runs; Postgres and the agents live on."""
        assert self.process is not None
        self.process.kill()
        self._wait(10)

    def interrupt(self) -> int:
        """Press Ctrl-C; return the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self._wait(30)

    def _wait(self, seconds: float) -> int:
        assert self.process is not None
        status = self.process.wait(seconds)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return status

    def close(self) -> None:
        """End everything that this system started, however the test left it."""
        if self.process is not None:
            if self.process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.interrupt()
                self.process.kill()
            self._wait(10)
        self.http.close()
        EmbeddedPostgres(self.data_dir / "data" / "postgres").stop()
        for pid in self.agents():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.data_dir, ignore_errors=True)

    def agents(self, job_id: int | None = None) -> list[int]:
        """Return the pids of this system's agents, zombies included; only those of *job_id*."""
        return agents_below(self.data_dir / "data", job_id)

    def admin_dsn(self) -> str:
        """Return the superuser's DSN of the embedded Postgres, while it runs."""
        return EmbeddedPostgres(self.data_dir / "data" / "postgres").dsn()


def agents_below(data_dir: Path, job_id: int | None = None) -> list[int]:
    """Return the pids of the agents of a data directory, zombies included; only of *job_id*."""
    root = str(data_dir / "instances")
    of_job = "" if job_id is None else f"\0DOCKER_JOB_JOB_ID={job_id}\0"
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with contextlib.suppress(OSError):
            environ = (entry / "environ").read_bytes().decode(errors="replace")
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
            if "docker_job_agent" in command and root in environ and of_job in environ:
                found.append(int(entry.name))
    return found
