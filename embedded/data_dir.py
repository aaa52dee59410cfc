"""The data directory of a run of docker-job, and the lock that makes it the only run.

Two runs on one data directory would both take every row and every instance for theirs. The lock is
the kernel's (`flock`), so it ends with the process in any case: there is no stale lock to clear
after a `kill -9`. The file itself stays; removing it would let two runs lock two
different files of the same name.
"""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_FILE = "lock"


class DataDirError(Exception):
    """This data directory cannot be used now. The message is one sentence for the user."""


def close_new_files() -> None:
    """Make all that this process and its children create private, whatever the umask was."""
    os.umask(0o077)


def make_private_dir(path: Path) -> None:
    """Create `path` (and its parents) unless it exists; an existing one keeps mode and owner.

    As root a new directory may be passed through, but not listed, by its group: that of the user of
    the embedded Postgres (`ServerUser.admit`), which must reach its own part. The files inside have
    mode 0600. Raises `DataDirError` for a directory that users share, such as /tmp, whose mode is
    not ours to change.
    """
    if not path.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=_dir_mode(), exist_ok=True)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & stat.S_ISVTX:
        raise DataDirError(
            f"{path} is shared with other users (mode {mode:04o}): set DOCKER_JOB_DATA_DIR to a "
            "directory of your own."
        )


def close_to_others(data_dir: Path) -> list[Path]:
    """Close what others can read, write or list in `data_dir`; return it.

    A release before, a copy or another umask may have left it so. The cluster is left out: Postgres
    itself refuses to start on one that is open. Raises `DataDirError` if it cannot be closed.
    """
    closed = []
    for path in _paths(data_dir):
        allowed = 0o7700 | (_dir_mode() if path in (data_dir, data_dir / "postgres") else 0)
        try:
            mode = path.lstat().st_mode
            if (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) and mode & 0o077 & ~allowed:
                path.chmod(stat.S_IMODE(mode) & allowed)
                closed.append(path)
        except FileNotFoundError:  # of an instance that has just ended
            continue
        except OSError as error:
            raise DataDirError(
                f"{path} is open to other users and cannot be closed to them ({error.strerror}): "
                f"run `chmod go= {path}` as its owner, or set DOCKER_JOB_DATA_DIR to a directory "
                "of your own."
            ) from error
    return closed


def _paths(data_dir: Path) -> Iterator[Path]:
    yield data_dir
    for place, directories, files in os.walk(data_dir):
        if "pgdata" in directories:
            directories.remove("pgdata")
        yield from (Path(place) / each for each in (*directories, *files))


def _dir_mode() -> int:
    return 0o710 if os.geteuid() == 0 else 0o700


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
