"""Files in the instance's directory."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile

from .log import now_utc

DISKS = ("/var/lib/docker-job", "/var/tmp")  # noqa: S108 - a file without a name


class InstanceDirectory:
    """The instance's directory: its lock is the compute adapter's liveness check."""

    def __init__(self, directory: str | None) -> None:
        self._given = directory is not None
        self.path = directory or tempfile.mkdtemp(prefix="docker-job-")
        self._lock: int | None = None

    def lock(self) -> bool:
        """Lock the directory; return False if another agent holds the lock.

        The adapter sees by this lock that the agent runs, so the file stays open until the process
        ends, and no child inherits it (Python opens files close-on-exec).
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

    def disk(self) -> str:
        """Return a directory that is on a disk.

        A temporary directory may be in memory: so it is on Amazon Linux 2023, and in the container
        of an instance, which has a volume instead.
        https://docs.aws.amazon.com/linux/al2023/ug/filesystem-slash-tmp.html
        """
        if self._given:
            return self.path
        usable = [each for each in DISKS if os.access(each, os.W_OK | os.X_OK)]
        return usable[0] if usable else self.path

    def record_end(self, reason: str) -> None:
        """Write the reason of the end, or remove the directory if it is a temporary one."""
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
