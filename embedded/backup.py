"""Backup and restore where all services are one process: `python -m embedded.backup save FILE`.

`save` dumps a snapshot of the database, while the system runs or not, verifies the dump and only
then replaces FILE with it. `restore`, while the system does not run, verifies the dump, loads it
beside the present database, replaces that once the new one is complete, and keeps the former one
until the next restore. Neither creates a database where there is none. Under compose
`deploy/backup.sh` does the same with the programs of the Postgres container.

The file holds the jobs with their env_vars, and hashes of keys: it is readable for its owner alone.
The data directory's `secrets.json` is not in it.
"""

import argparse
import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, create_subprocess_exec
from collections.abc import Set as AbstractSet
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit

from embedded.backup_file import (
    NEEDED,
    BackupError,
    Table,
    refuse_missing,
    refuse_no_file,
    refuse_no_place,
    tables_listed,
    written_beside,
)
from embedded.data_dir import DataDirError, lock_data_dir, make_private_dir, refuse_without
from embedded.database import POSTGRES, borrowed_database, refuse_no_database
from embedded.postgres import EmbeddedPostgres, EmbeddedPostgresError
from embedded.postgres_host import binaries, own_environment
from embedded.secrets import FILE, local_secrets
from operations.migrate import migrate_all
from operations.resend import Settled, settle, summary
from operations.wiring import SERVICES
from shared.log import mask
from shared.postgres.migrations import MigrationError
from shared.postgres.pool import Connection, connect, is_not_ours, is_transient
from shared.settings import Settings

INCOMING = "docker_job_incoming"
FORMER = "docker_job_former"
MAINTENANCE = "template1"
"""The database to connect to while the one in use is renamed."""

OTHERS = "set DOCKER_JOB_DATABASE_URL, or DOCKER_JOB_DATA_DIR, to those that docker-job runs on"

TABLES = """
SELECT schemaname, tablename FROM pg_tables
WHERE schemaname NOT IN ('pg_catalog', 'information_schema')
"""


async def read_tables(conn: Connection) -> set[Table]:
    """List every table of the database, by schema and name."""
    return {(row["schemaname"], row["tablename"]) for row in await conn.fetch(TABLES)}


async def save(dsn: str, file: Path) -> None:
    """Dump the database of *dsn* to *file*: complete and verified, or not at all."""
    conn = await connect(dsn)
    try:
        tables = await read_tables(conn)
    finally:
        await conn.close(timeout=5)
    refuse_missing(f"This is not a database of docker-job ({OTHERS})", NEEDED, tables)
    schemas = {schema for schema, _ in NEEDED}
    flags = ("--format=custom", "--no-owner", "--no-privileges")
    with written_beside(file) as (descriptor, beside):
        # By name: to a standard output that is a file pg_dump writes the list twice. It inherits
        # the descriptor, and with it the lock, in case it outlives us.
        await _program("pg_dump", dsn, *flags, f"--file={beside}", held=(descriptor,))
        await verify(beside, {each for each in tables if each[0] in schemas})


async def verify(file: Path, needed: AbstractSet[Table] = NEEDED) -> None:
    """Read all of a dump. Raises `BackupError` if it is incomplete or lacks a *needed* table."""
    listing = await _program("pg_restore", "", "--list", file)
    refuse_missing(f"{file} is not a backup of docker-job", needed, tables_listed(listing))
    # The list is at the start: only reading all of it shows that nothing is cut off.
    await _program("pg_restore", "", "--file=/dev/null", file)


async def restore(dsn: str, file: Path, passwords: dict[str, str]) -> Settled:
    """Replace the database of *dsn* with the dump, and prepare it for the services."""
    await verify(file)
    await _refuse_foreign(dsn)
    name = urlsplit(dsn).path.removeprefix("/")
    conn = await connect(at_database(dsn, MAINTENANCE), command_seconds=None)
    try:
        await conn.execute(f'DROP DATABASE IF EXISTS "{INCOMING}" WITH (FORCE)')
        await conn.execute(f'CREATE DATABASE "{INCOMING}" TEMPLATE template0')
        try:
            settled = await _load(at_database(dsn, INCOMING), file, passwords)
        except BaseException:  # an incomplete one would only fill the disk
            with contextlib.suppress(Exception):
                await conn.execute(f'DROP DATABASE IF EXISTS "{INCOMING}" WITH (FORCE)')
            raise
        await conn.execute(f'DROP DATABASE IF EXISTS "{FORMER}" WITH (FORCE)')
        async with conn.transaction():
            await conn.execute(f'ALTER DATABASE "{name}" RENAME TO "{FORMER}"')
            await conn.execute(f'ALTER DATABASE "{INCOMING}" RENAME TO "{name}"')
        return settled
    finally:
        await conn.close(timeout=5)


async def _refuse_foreign(dsn: str) -> None:
    """Raise `BackupError` where the database holds tables, but none of ours."""
    conn = await connect(dsn)
    try:
        tables = await read_tables(conn)
    finally:
        await conn.close(timeout=5)
    if tables and not tables & NEEDED:
        raise BackupError(f"The database to be replaced is not docker-job's: {OTHERS}")


async def _load(dsn: str, file: Path, passwords: dict[str, str]) -> Settled:
    name = urlsplit(dsn).path.removeprefix("/")
    flags = ("--exit-on-error", "--no-owner", "--no-privileges", f"--dbname={name}")
    await _program("pg_restore", dsn, *flags, file)
    await migrate_all(dsn, passwords)
    return await settle(dsn)


def at_database(dsn: str, database: str) -> str:
    """Return *dsn* with another database's name."""
    parts = urlsplit(dsn)
    return urlunsplit((parts.scheme, parts.netloc, f"/{database}", parts.query, ""))


async def _program(name: str, dsn: str, *arguments: str | Path, held: tuple[int, ...] = ()) -> str:
    """Run one of Postgres' programs on the database of *dsn*; return its output.

    The login is in its environment. It inherits the descriptors *held*.
    """
    parts = urlsplit(dsn)
    query = {key: values[0] for key, values in parse_qs(parts.query).items()}
    env = own_environment() | {
        "PGHOST": query.get("host", parts.hostname or "localhost"),
        "PGPORT": query.get("port", str(parts.port or 5432)),
        "PGUSER": unquote(parts.username or "postgres"),
        "PGPASSWORD": unquote(parts.password or ""),
        "PGDATABASE": parts.path.removeprefix("/"),
    }
    process = await create_subprocess_exec(
        binaries() / name,
        *arguments,
        env=env,
        pass_fds=held,
        umask=0o077,
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        printed, errors = await process.communicate()
    finally:
        if process.returncode is None:  # this process is being stopped
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0:
        lines = errors.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise BackupError(f"{name}: {lines[0]}")
    return printed.decode(errors="replace")


async def _save(data_dir: Path, url: str | None, file: Path) -> None:
    if url is not None:
        await save(url, file)
        return
    async with borrowed_database(data_dir) as dsn:
        await save(dsn, file)


def _make_place(data_dir: Path) -> None:
    """Make the directory of a new database, unless it has one. Raises `DataDirError`."""
    if data_dir.exists() and (not data_dir.is_dir() or any(data_dir.iterdir())):
        refuse_no_database(data_dir)
    make_private_dir(data_dir)


async def _restore(data_dir: Path, url: str | None, file: Path) -> Settled:
    """Restore into *data_dir*, which is created if it is missing, as after a loss.

    Raises `DataDirError` if the system runs, and for a directory with other contents.
    """
    if url is None:
        await verify(file)  # before anything is made
        _make_place(data_dir)
    else:
        refuse_without(data_dir, data_dir / FILE, FILE)
    with lock_data_dir(data_dir):
        passwords = local_secrets(data_dir, tuple(service.NAME for service in SERVICES)).passwords
        if url is not None:
            return await restore(url, file, passwords)
        postgres = EmbeddedPostgres(data_dir / POSTGRES)
        try:
            return await restore(await asyncio.to_thread(postgres.start), file, passwords)
        finally:
            await asyncio.to_thread(postgres.stop)


def _arguments() -> argparse.Namespace:
    top = argparse.ArgumentParser(prog="python -m embedded.backup", description="Save or restore.")
    top.add_argument("command", choices=("save", "restore"))
    top.add_argument("file", metavar="FILE")
    options = top.parse_args()
    if not options.file:
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
    settings = Settings(os.environ)
    data_dir = Path(settings.text("DATA_DIR", ".data")).absolute()
    url, file = settings.text("DATABASE_URL"), options.file
    try:
        if options.command == "save":
            asyncio.run(_save(data_dir, url, file))
            print(f"saved to {file}")
        else:
            print(f"restored; {summary(asyncio.run(_restore(data_dir, url, file)))}")
    except (BackupError, DataDirError, EmbeddedPostgresError, MigrationError) as error:
        print(f"docker-job backup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("docker-job backup: stopped; nothing was replaced", file=sys.stderr)
        return 130
    except Exception as error:
        if not (is_transient(error) or is_not_ours(error)):
            raise
        print(f"docker-job backup: {mask(str(error)) or type(error).__name__}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
