"""Backups that are encrypted to the keys of `DOCKER_JOB_BACKUP_KEY`, in the format of `age`.

A file is decrypted as a whole into a private temporary directory before anything reads it, so that
a wrong key and an altered or incomplete file are refused before anything is touched.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from embedded.backup_file import BackupError, written_beside
from operations import age
from shared.files import private
from shared.settings import BadSetting, Settings

SETTING = "BACKUP_KEY"


def backup_keys(settings: Settings) -> age.Keys | None:
    """Return the keys of backups, None if there are none. Raises `BadSetting`."""
    text = settings.text(SETTING)
    try:
        return None if text is None else age.Keys(text)
    except age.AgeError as error:
        raise BadSetting(f"DOCKER_JOB_{SETTING} cannot be used: {error}") from error


def encrypt_in_place(file: Path, keys: age.Keys) -> None:
    """Replace *file* by its encrypted form, which is synced."""
    with (
        written_beside(file) as (_, beside),
        file.open("rb") as source,
        beside.open("wb") as target,
    ):
        age.encrypt(keys, source, target)


@contextlib.contextmanager
def decrypted(file: Path, keys: age.Keys | None) -> Iterator[Path]:
    """Yield *file*, or its decrypted form, which is removed after the block.

    Raises `BackupError`.
    """
    with file.open("rb") as opened:
        if not age.is_encrypted(opened.read(len(age.MAGIC))):
            yield file
            return
    if keys is None:
        raise BackupError(
            f"{file} is encrypted: set DOCKER_JOB_{SETTING}_FILE to the file with its key"
        )
    directory = Path(tempfile.mkdtemp(prefix="docker-job-restore-"))
    try:
        plain = directory / file.name  # the name is in messages
        with file.open("rb") as source, open(plain, "wb", opener=private) as target:
            age.decrypt(keys, source, target)
        yield plain
    except age.AgeError as error:
        raise BackupError(f"{file} cannot be decrypted: {error}") from error
    finally:
        shutil.rmtree(directory, ignore_errors=True)
