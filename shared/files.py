"""Files that a crash leaves whole or not at all, such as secrets."""

import os
from pathlib import Path


def write_whole(path: Path, content: bytes, *, mode: int = 0o600, owner: int | None = None) -> None:
    """Write *content* to *path*, with *mode*: beside it, synced, then moved.

    A crash leaves the former file or the new one. The content is never readable for more users
    than *mode* names. The file is this user's, or the user's and group's with the number *owner*.
    Raises OSError.
    """
    beside = path.with_name(f"{path.name}.new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        os.fchmod(descriptor, mode)
        if owner is not None:
            os.fchown(descriptor, owner, owner)
        file.flush()
        os.fsync(descriptor)
    beside.replace(path)
    sync_directory(path.parent)


def private(path: str, flags: int) -> int:
    """Open a file for its owner alone, whatever the umask: the *opener* of `open`."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def sync_directory(path: Path) -> None:
    """Make the names in the directory *path* durable: those of files that were moved there."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
