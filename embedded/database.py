"""The embedded database for a command: the running system's, or started for the command.

A command never starts or stops a server that another process may be using. Two locks of the data
directory hold that, both the kernel's (`flock`):

lock       by the system while it runs; by a command only while it starts or stops the server
commands   shared by every command that uses the database; a restore has it for itself

The last command that ends stops the server, unless the system runs by then.
"""

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from embedded.data_dir import DataDirError, lock_data_dir, make_private_dir, refuse_without
from embedded.postgres import EmbeddedPostgres

POSTGRES = "postgres"
"""Its directory within the data directory."""

COMMANDS_FILE = "commands"
BUSY_SECONDS = 30.0  # longer than a command takes to stop the server
REACH_SECONDS = 60.0  # a start after a crash takes as long as its recovery
POLL_SECONDS = 0.1


def refuse_no_database(data_dir: Path) -> None:
    """Raise `DataDirError` if *data_dir* has no embedded database; create nothing."""
    cluster = data_dir / POSTGRES / "pgdata"  # as in embedded/postgres_cluster.py
    refuse_without(data_dir, cluster / "PG_VERSION", "embedded database")


@contextlib.asynccontextmanager
async def borrowed_database(data_dir: Path, *, create: bool = False) -> AsyncIterator[str]:
    """Yield the superuser's DSN while the block runs.

    Raises `DataDirError` if there is no database, unless it is to *create* one, and
    `EmbeddedPostgresError` if it does not start.
    """
    if create:
        make_private_dir(data_dir)
    else:
        refuse_no_database(data_dir)
    postgres = EmbeddedPostgres(data_dir / POSTGRES)
    postgres.refuse_foreign()  # before a lock file is made beside it
    with _commands_file(data_dir) as commands:
        await _join(commands, data_dir)
        try:
            yield await _reach(data_dir, postgres)
        finally:
            await asyncio.to_thread(_leave, commands, data_dir, postgres)


@contextlib.contextmanager
def database_alone(data_dir: Path) -> Iterator[EmbeddedPostgres]:
    """Yield the embedded Postgres, not started, to this process alone; stop it after the block.

    Raises `DataDirError` if the system or a command uses it, and `EmbeddedPostgresError` if the
    cluster is not ours.
    """
    postgres = EmbeddedPostgres(data_dir / POSTGRES)
    postgres.refuse_foreign()  # before a lock file is made beside it
    with lock_data_dir(data_dir), _commands_file(data_dir) as commands:
        try:
            fcntl.flock(commands, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _busy(data_dir) from error
        try:
            yield postgres
        finally:
            postgres.stop()


@contextlib.contextmanager
def _commands_file(data_dir: Path) -> Iterator[int]:
    """Open the lock file of the commands; closing it gives up its lock."""
    try:
        commands = os.open(data_dir / COMMANDS_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DataDirError(
            f"The data directory {data_dir} cannot be written ({error.strerror}): run this as the "
            "user that runs docker-job."
        ) from error
    try:
        yield commands
    finally:
        os.close(commands)


async def _join(commands: int, data_dir: Path) -> None:
    """Take the commands' lock; wait for one that is stopping the server."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            fcntl.flock(commands, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise _busy(data_dir) from error
            await asyncio.sleep(POLL_SECONDS)
        else:
            return


async def _reach(data_dir: Path, postgres: EmbeddedPostgres) -> str:
    """Return the DSN of the server that runs, or start one if the system does not run.

    The system may be starting its own just now, or recovering after a crash: wait for that.
    """
    deadline = time.monotonic() + REACH_SECONDS
    while True:
        dsn = await asyncio.to_thread(postgres.attach)
        if dsn is not None:
            return dsn
        try:
            with lock_data_dir(data_dir):
                return await asyncio.to_thread(postgres.start)
        except DataDirError as error:
            if time.monotonic() > deadline:
                raise DataDirError(
                    f"docker-job runs on {data_dir}, and no embedded Postgres answers there: wait "
                    "until it has started, or, if it uses another database, set "
                    "DOCKER_JOB_DATABASE_URL to that one."
                ) from error
        await asyncio.sleep(POLL_SECONDS)


def _leave(commands: int, data_dir: Path, postgres: EmbeddedPostgres) -> None:
    """Stop the server, unless another command or the system uses it."""
    try:
        fcntl.flock(commands, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return  # the last one stops it
    with contextlib.suppress(DataDirError), lock_data_dir(data_dir):
        postgres.stop()


def _busy(data_dir: Path) -> DataDirError:
    return DataDirError(
        f"Another command of docker-job works on {data_dir}: run this again when it has ended."
    )
