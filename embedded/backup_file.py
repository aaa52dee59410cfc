"""The file of a backup: written beside its place, verified, then moved there in one step.

A save that fails, is interrupted or killed leaves the former file as it was. The leftover of a
killed one has the name `<file>.<random>.part`, and the next save of that file removes it.

The dump is followed by lines that name its contents, and the last line is the SHA-256 of what is
above it. `pg_restore` ignores these lines, but does not notice every altered byte itself [tried: of
60 single bits it missed 23].
"""

import contextlib
import fcntl
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from embedded.tables import Table
from shared.files import sync_directory

PART = ".part"

CONTENTS = Path(__file__).with_name("backup_contents.txt").read_text(encoding="utf-8")
"""What every backup contains, and what not."""

_MARK = b"\ndocker-job sha256 "  # as in deploy/backup.sh
_LINE_BYTES = len(_MARK) + 64 + 1
_CHUNK_BYTES = 1 << 20
_CONTENTS_MARK = b"\ndocker-job backup: "
_END_BYTES = 1024  # more than the lines after the dump have

# A line of `pg_restore --list`: id; two object ids, the kind, schema, name, owner.
_TABLE_DATA = re.compile(r"^\d+; \d+ \d+ TABLE DATA (\S+) (\S+)(?: |$)", re.MULTILINE)


class BackupError(Exception):
    """It cannot be saved or restored. The message is one sentence for the operator."""


def refuse_no_place(file: Path) -> None:
    """Raise `BackupError` if no file can be written at *file*."""
    if file.is_dir():
        raise BackupError(f"{file} is a directory: name a file in it")
    if file.exists() and not file.is_file():
        raise BackupError(f"{file} is not a regular file: name another one")
    if not file.parent.is_dir():
        raise BackupError(f"{file.parent} is not a directory: make it, or name another file")


def refuse_no_file(file: Path) -> None:
    """Raise `BackupError` if *file* cannot be a backup at all."""
    if not file.exists():
        raise BackupError(f"{file} does not exist")
    if not file.is_file():
        raise BackupError(f"{file} is not a regular file")
    if file.stat().st_size == 0:
        raise BackupError(f"{file} is empty")


@contextlib.contextmanager
def written_beside(file: Path) -> Iterator[tuple[int, Path]]:
    """Open a new file beside *file*, for its owner alone; yield its descriptor and path.

    It is synced and replaces *file* when the block ends, and is removed if the block raises.
    Raises `BackupError` if it cannot be written.
    """
    _remove_leftovers(file)
    try:
        descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f"{file.name}.", suffix=PART)
    except OSError as error:
        raise BackupError(f"{file} cannot be written: {error.strerror}") from error
    beside = Path(name)
    try:
        # Held until the last process that writes to it has ended: not a leftover until then.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield descriptor, beside
        os.fsync(descriptor)
        beside.replace(file)
        sync_directory(file.parent)
    finally:
        beside.unlink(missing_ok=True)
        os.close(descriptor)


def _remove_leftovers(file: Path) -> None:
    """Remove the leftovers of killed saves of *file*, but not what another one writes now."""
    # Twice where a save was killed while it encrypted.
    leftover = re.compile(re.escape(file.name) + rf"(\.\w{{8}}{re.escape(PART)}){{1,2}}")
    for each in [each for each in file.parent.iterdir() if leftover.fullmatch(each.name)]:
        with contextlib.suppress(OSError):
            descriptor = os.open(each, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                each.unlink()
            finally:
                os.close(descriptor)


def tables_listed(listing: str) -> set[Table]:
    """Read the tables with rows in a dump from its `pg_restore --list`."""
    return {(schema, name) for schema, name in _TABLE_DATA.findall(listing)}


def add_contents_and_checksum(file: Path) -> None:
    """Add the lines with the contents of *file*, and the line with its checksum, to it."""
    with file.open("ab") as appended:
        appended.write(b"\n" + CONTENTS.encode())
    with file.open("r+b") as opened:
        digest = _sha256(opened, file.stat().st_size)
        opened.write(_MARK + digest.encode() + b"\n")


def refuse_altered(file: Path) -> None:
    """Raise `BackupError` if *file* has a checksum that does not fit; older backups have none."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        opened.seek(max(0, size - _LINE_BYTES))
        line = opened.read()
        start = line.find(_MARK)
        opened.seek(max(0, size - _END_BYTES))
        end = opened.read()
        if start < 0 and (_CONTENTS_MARK not in end or end.endswith(b"\n")):
            return
        if start != 0 or len(line) < _LINE_BYTES:
            raise BackupError(
                f"{file} is not complete: its last line, which pg_restore does not read, is cut off"
            )
        opened.seek(0)
        if _sha256(opened, size - _LINE_BYTES) != line[len(_MARK) : -1].decode(errors="replace"):
            raise BackupError(f"{file} was altered since it was saved: its checksum does not fit")


def _sha256(opened: IO[bytes], size: int) -> str:
    """Return the digest of the next *size* bytes."""
    digest = hashlib.sha256()
    while size > 0:
        chunk = opened.read(min(size, _CHUNK_BYTES))
        if not chunk:
            break
        digest.update(chunk)
        size -= len(chunk)
    return digest.hexdigest()
