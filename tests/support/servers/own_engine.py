"""A Docker engine of a test's own, which may be stopped and killed. It needs root and `dockerd`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.waiting import until

START_SECONDS = 60.0


class OwnEngine:
    """An engine with a directory, a socket, a network and a containerd of its own."""

    def __init__(self, directory: Path) -> None:
        self.settings: dict[str, object] = {}
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.host = f"unix://{directory}/engine.sock"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        place = self._directory
        (place / "settings").write_text(json.dumps(self.settings))  # not the machine's
        (place / "engine.pid").unlink(missing_ok=True)  # of one that was killed
        with (place / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    # In a network of its own: an engine takes away bridges of its machine.
                    *("unshare", "--net", "dockerd", "--host", self.host),
                    *("--pidfile", str(place / "engine.pid")),
                    *("--data-root", str(place / "data"), "--exec-root", str(place / "exec")),
                    *("--iptables=false", "--ip6tables=false"),
                    *("--config-file", str(place / "settings")),
                    # Another engine's containerd may be used.
                    *("--containerd-namespace", f"docker-job-{os.getpid()}"),
                    *("--containerd-plugins-namespace", f"docker-job-{os.getpid()}-plugins"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        started = self._process
        until(lambda: started.poll() is not None or self._answers(), START_SECONDS)
        if not self._answers():
            pytest.skip(f"no second engine starts here: {(place / 'log').read_text()[-300:]}")

    def end(self, number: int = signal.SIGTERM) -> None:
        """End it by a signal, and wait for that."""
        if self._process:
            self._process.send_signal(number)
            self._process.wait(START_SECONDS)
            until(lambda: not self._has_containerd(), START_SECONDS)  # it dies with a killed one

    def docker(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run a docker command on it."""
        return subprocess.run(
            ["docker", "--host", self.host, *arguments],
            input=stdin,
            capture_output=True,
            timeout=START_SECONDS,
            check=False,
        )

    def _has_containerd(self) -> bool:
        pid = self._directory / "exec" / "containerd" / "containerd.pid"
        return pid.exists() and Path(f"/proc/{pid.read_text().strip()}").exists()

    def _answers(self) -> bool:
        return self.docker("version").returncode == 0


@contextmanager
def own_engine(image: str) -> Iterator[OwnEngine]:
    """Run an engine that has *image*, which this machine's engine must have."""
    if os.geteuid() != 0 or not (shutil.which("dockerd") and shutil.which("unshare")):
        pytest.skip("a second engine needs root, dockerd and unshare")
    saved = subprocess.run(["docker", "save", image], capture_output=True, check=False)
    if saved.returncode != 0:
        pytest.skip(f"no Docker engine answers, or it has no {image}")
    directory = Path(tempfile.mkdtemp(prefix="djt", dir="/tmp"))  # short, for sockets
    engine = OwnEngine(directory)
    try:
        engine.start()
        engine.docker("load", stdin=saved.stdout)
        yield engine
    finally:
        engine.end()
        # One that was killed leaves its directory mounted on itself.
        unmount = ["umount", str(directory / "data")]
        while subprocess.run(unmount, capture_output=True, check=False).returncode == 0:
            pass
        shutil.rmtree(directory, ignore_errors=True)
