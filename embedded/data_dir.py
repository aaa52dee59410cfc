"""The data directory of a run of docker-job, and the lock that makes it the only run.

Two runs on one data directory would both take every row and every instance for theirs. The lock is
the kernel's (`flock`), so it ends with the process in any case: there is no stale lock to clear
after a `kill -9`. The file itself stays; removing it would let two runs lock two
different files of the same name.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_FILE = "lock"


class DataDirError(Exception):
    """This data directory cannot be used now. The message is one sentence for the user."""


def make_private_dir(path: Path) -> None:
    """Create `path` (and its parents) unless it exists; an existing one keeps mode and owner.

    As root the new directory may be passed through but not listed by others: the embedded Postgres
    runs as another user there and must reach its own part. The secrets inside are files of mode
    0600.
    """
    if path.is_dir():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, exist_ok=True)


def refuse_without(data_dir: Path, needed: Path, what: str) -> None:
    """Raise `DataDirError` unless *needed*, a file of `data_dir` that holds *what*, exists.

    Creates nothing. For commands that work on the data of `make run`, and would otherwise create
    empty data in a wrong directory.
    """
    try:
        if needed.is_file():
            return
    except OSError as error:
        raise DataDirError(f"{needed} cannot be read: {error.strerror}.") from error
    missing = needed if data_dir.is_dir() else data_dir
    message = (
        f"There is no {what} in the data directory {data_dir} ({missing} does not exist): set "
        "DOCKER_JOB_DATA_DIR to the directory that docker-job runs on, or start docker-job once "
        "to make it."
    )
    raise DataDirError(message)


@contextmanager
def lock_data_dir(data_dir: Path) -> Iterator[None]:
    """Lock `data_dir` for this process alone until the block (or the process) ends.

    Raises `DataDirError` at once, without waiting, if another process holds it or it cannot be
    written. The lock's descriptor is closed on exec, so neither Postgres nor an agent keeps it
    after us.
    """
    try:
        make_private_dir(data_dir)
        lock = os.open(data_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        message = (
            f"The data directory {data_dir} cannot be written ({error.strerror}): "
            "set DOCKER_JOB_DATA_DIR to a directory of your own."
        )
        raise DataDirError(message) from error
    try:
        _lock_or_refuse(lock, data_dir)
        yield
    finally:
        os.close(lock)


def _lock_or_refuse(lock: int, data_dir: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        # The holder writes its pid just after it has locked: in between the file may be empty.
        holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
        message = (
            f"docker-job already runs on {data_dir} (pid {holder}): "
            "stop that one, or set DOCKER_JOB_DATA_DIR to another directory."
        )
        raise DataDirError(message) from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
