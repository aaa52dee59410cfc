"""The instance's directory."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile

from .log import now_utc


class InstanceDirectory:
    """The instance's directory: proof of life for the compute adapter, and room for our files."""

    def __init__(self, directory: str | None) -> None:
        self._given = directory is not None
        self.path = directory or tempfile.mkdtemp(prefix="docker-job-")
        self._lock: int | None = None

    def lock(self) -> bool:
        """Become the one agent of this directory; False if another is.

        The adapter knows that we live by this lock, so it stays open until the process ends, and no
        child inherits it (Python opens files close-on-exec).
        """
        if not self._given:
            return True
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._lock = os.open(os.path.join(self.path, "alive.lock"), flags, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        self._write("pid", str(os.getpid()))
        return True

    def record_end(self, reason: str) -> None:
        """Write down why we ended, or remove the directory if it was only ours."""
        with contextlib.suppress(OSError):  # a full disk must not keep the instance alive
            if self._given:
                self._write("ended", json.dumps({"at": now_utc().isoformat(), "reason": reason}))
            else:
                shutil.rmtree(self.path, ignore_errors=True)

    def _write(self, name: str, text: str) -> None:
        path = os.path.join(self.path, name)
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(path + ".new", path)


def write_private_file(path: str, content: bytes) -> None:
    """Create a file that only we may read; never follow or reuse one that is there."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
