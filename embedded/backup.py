"""Backup and restore where all services are one process: `python -m embedded.backup save FILE`.

`save` dumps a snapshot of the database, while the system runs or not, verifies the dump and only
then replaces FILE with it. `restore`, while the system does not run, verifies the dump, loads it
beside the present database, replaces that once the new one is complete, and keeps the former one
until the next restore. Neither creates a database where there is none. Under compose
`deploy/backup.sh` does the same with the programs of the Postgres container.

The file holds the jobs with their env_vars, and hashes of keys: it is readable for its owner alone,
and encrypted where `DOCKER_JOB_BACKUP_KEY` is set. The data directory's `secrets.json` is not in
it.
"""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from embedded import dump
from embedded.backup_file import (
    CONTENTS,
    BackupError,
    add_contents_and_checksum,
    refuse_no_file,
    refuse_no_place,
    written_beside,
)
from embedded.data_dir import (
    DataDirError,
    close_new_files,
    close_to_others,
    lock_data_dir,
    make_private_dir,
    refuse_without,
)
from embedded.database import borrowed_database, database_alone, refuse_no_database
from embedded.encrypted_backup import backup_keys, decrypted, encrypt_in_place
from embedded.postgres import EmbeddedPostgresError
from embedded.restored_database import replace_database
from embedded.secrets import FILE, local_secrets
from embedded.tables import NEEDED, OTHERS, missing_tables, tables_of
from operations.age import Keys
from operations.resend import Settled, summary
from operations.wiring import SERVICES
from shared.log import mask
from shared.postgres.migrations import MigrationError
from shared.postgres.pool import is_not_ours, is_transient
from shared.settings import BadSetting, Settings
from shared.terminal import print_line

REFUSALS = (BackupError, BadSetting, DataDirError, EmbeddedPostgresError, MigrationError)

T = TypeVar("T")


async def save(dsn: str, file: Path, keys: Keys | None = None) -> None:
    """Dump the database of *dsn* to *file*: complete and verified, or not at all.

    It is encrypted to *keys*, if there are any.
    """
    tables = await tables_of(dsn)
    missing = missing_tables(NEEDED, tables)
    if missing is not None:
        raise BackupError(f"This is not a database of docker-job ({OTHERS}): {missing}")
    schemas = {schema for schema, _ in NEEDED}
    with written_beside(file) as (descriptor, beside):
        await dump.write(dsn, beside, descriptor)
        await dump.verify(beside, {each for each in tables if each[0] in schemas})
        add_contents_and_checksum(beside)
        if keys is not None:
            await asyncio.to_thread(encrypt_in_place, beside, keys)


async def verify(file: Path) -> None:
    """Check all that a restore needs of *file*. Raises `BackupError`; changes nothing."""
    await dump.verify(file)
    await dump.refuse_other_release(file)


async def _save(data_dir: Path, url: str | None, file: Path, keys: Keys | None) -> None:
    if url is not None:
        await save(url, file, keys)
        return
    async with borrowed_database(data_dir) as dsn:
        await save(dsn, file, keys)


def _make_place(data_dir: Path) -> None:
    """Make the directory of a new database, unless it has one. Raises `DataDirError`."""
    if data_dir.exists() and (not data_dir.is_dir() or any(data_dir.iterdir())):
        refuse_no_database(data_dir)
    make_private_dir(data_dir)
    close_to_others(data_dir)


def _passwords(data_dir: Path) -> dict[str, str]:
    return local_secrets(data_dir, tuple(service.NAME for service in SERVICES)).passwords


async def _restore(data_dir: Path, url: str | None, file: Path) -> Settled:
    """Restore into *data_dir*, which is created if it is missing, as after a loss.

    Raises `DataDirError` if the system runs, and for a directory with other contents.
    """
    await verify(file)  # before anything is made
    if url is not None:
        refuse_without(data_dir, data_dir / FILE, FILE)
        with lock_data_dir(data_dir):
            return await replace_database(url, file, _passwords(data_dir))
    _make_place(data_dir)
    with database_alone(data_dir) as postgres:
        passwords = _passwords(data_dir)
        return await replace_database(await asyncio.to_thread(postgres.start), file, passwords)


async def _stoppable(work: Coroutine[Any, Any, T]) -> T:
    """Run *work*; SIGTERM and a closed terminal stop it as Ctrl-C does, with all its clean-up."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if task is not None:
            loop.add_signal_handler(number, task.cancel)
    return await work


def _arguments() -> argparse.Namespace:
    top = argparse.ArgumentParser(prog="python -m embedded.backup", description="Save or restore.")
    top.add_argument("command", choices=("save", "restore"))
    top.add_argument("file", metavar="FILE")
    options = top.parse_args()
    if not options.file.strip():
        top.error(f"{options.command}: name the file, like FILE=today.backup")
    options.file = Path(options.file).absolute()
    try:
        if options.command == "save":
            # Where it is a link, what it leads to is replaced, and the link stays.
            options.file = Path(os.path.realpath(options.file))
            refuse_no_place(options.file)
        else:
            refuse_no_file(options.file)
    except (BackupError, OSError) as error:
        top.error(str(error))
    return options


def main() -> int:
    """Run the command line; return the exit status."""
    options = _arguments()
    close_new_files()
    settings, file = Settings(os.environ), options.file
    try:
        data_dir = Path(settings.text("DATA_DIR", ".data")).absolute()
        url, keys = settings.text("DATABASE_URL"), backup_keys(settings)
        if options.command == "save":
            asyncio.run(_stoppable(_save(data_dir, url, file, keys)))
            for line in CONTENTS.splitlines():
                print_line(line, error=True)
            print_line(f"saved to {file}" if keys is None else f"saved, encrypted, to {file}")
        else:
            with decrypted(file, keys) as plain:
                settled = asyncio.run(_stoppable(_restore(data_dir, url, plain)))
            print_line(f"restored; {summary(settled)}")
    except REFUSALS as error:
        print_line(f"docker-job backup: {error}", error=True)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        print_line("docker-job backup: stopped; nothing was replaced", error=True)
        return 130
    except Exception as error:
        if not (is_transient(error) or is_not_ours(error)):
            raise
        print_line(f"docker-job backup: {mask(str(error)) or type(error).__name__}", error=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
