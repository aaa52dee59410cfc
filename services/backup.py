"""Backup and restore where all services are one process: `python -m services.backup save FILE`.

`save` dumps the database as it is at one moment, while the system runs or not. `restore`, while it
does not run, loads the dump beside the present database, puts it in its place once it is whole, and
keeps the former one until the next restore. Under compose `deploy/backup.sh` does the same with the
programs of the Postgres container.

The file holds the jobs with their env_vars, and hashes of keys: it is written for its owner alone.
The data directory's `secrets.json` is not in it.
"""

import argparse
import asyncio
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit

from services.data_dir import DataDirError, lock_data_dir
from services.embedded_database import POSTGRES, borrowed_database
from services.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError
from services.local_secrets import local_secrets
from services.migrate import SERVICES, migrate_all
from services.postgres_host import binaries, own_environment
from services.restored import Settled, settle, told
from shared.config import Settings
from shared.db import connect
from shared.migrations import MigrationError

INCOMING = "docker_job_incoming"
FORMER = "docker_job_former"
MAINTENANCE = "template1"
"""The database to be connected to while the one in use is renamed."""


class BackupError(Exception):
    """It cannot be saved or restored. The message is one sentence for a person."""


def save(dsn: str, file: Path) -> None:
    """Dump the database to *file*: whole or not at all."""
    aside = file.with_name(file.name + ".part")
    try:
        aside.touch(mode=0o600)
        aside.chmod(0o600)
        _program("pg_dump", dsn, "--format=custom", "--no-owner", "--no-privileges", f"-f{aside}")
        aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)


async def restore(dsn: str, file: Path, passwords: dict[str, str]) -> Settled:
    """Put the dump in the place of the database of *dsn*, and make it ready for the services."""
    name = urlsplit(dsn).path.removeprefix("/")
    maintenance = at_database(dsn, MAINTENANCE)
    conn = await connect(maintenance, command_seconds=None)
    try:
        await conn.execute(f'DROP DATABASE IF EXISTS "{INCOMING}" WITH (FORCE)')
        await conn.execute(f'CREATE DATABASE "{INCOMING}" TEMPLATE template0')
        await asyncio.to_thread(_load, at_database(dsn, INCOMING), file)
        await migrate_all(at_database(dsn, INCOMING), passwords)
        settled = await settle(at_database(dsn, INCOMING))
        await conn.execute(f'DROP DATABASE IF EXISTS "{FORMER}" WITH (FORCE)')
        async with conn.transaction():
            await conn.execute(f'ALTER DATABASE "{name}" RENAME TO "{FORMER}"')
            await conn.execute(f'ALTER DATABASE "{INCOMING}" RENAME TO "{name}"')
        return settled
    finally:
        await conn.close(timeout=5)


def _load(dsn: str, file: Path) -> None:
    name = urlsplit(dsn).path.removeprefix("/")
    flags = ("--exit-on-error", "--no-owner", "--no-privileges", f"--dbname={name}")
    _program("pg_restore", dsn, *flags, file)


def at_database(dsn: str, database: str) -> str:
    """*dsn* with another database's name."""
    parts = urlsplit(dsn)
    return urlunsplit((parts.scheme, parts.netloc, f"/{database}", parts.query, ""))


def _program(name: str, dsn: str, *arguments: str | Path) -> None:
    """Run one of Postgres' programs on the database of *dsn*; its login goes by environment."""
    parts = urlsplit(dsn)
    asked = {key: values[0] for key, values in parse_qs(parts.query).items()}
    env = own_environment() | {
        "PGHOST": asked.get("host", parts.hostname or "localhost"),
        "PGPORT": asked.get("port", str(parts.port or 5432)),
        "PGUSER": unquote(parts.username or "postgres"),
        "PGPASSWORD": unquote(parts.password or ""),
        "PGDATABASE": parts.path.removeprefix("/"),
    }
    done = subprocess.run(
        [binaries() / name, *arguments], env=env, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise BackupError(f"{name}: {said[0]}")


async def _save(data_dir: Path, url: str | None, file: Path) -> None:
    if url is not None:
        await asyncio.to_thread(save, url, file)
        return
    async with borrowed_database(data_dir) as dsn:
        await asyncio.to_thread(save, dsn, file)


async def _restore(data_dir: Path, url: str | None, file: Path) -> Settled:
    """Raises `DataDirError` where the system runs."""
    passwords = local_secrets(data_dir, tuple(service.NAME for service in SERVICES)).passwords
    with lock_data_dir(data_dir):
        if url is not None:
            return await restore(url, file, passwords)
        postgres = EmbeddedPostgres(data_dir / POSTGRES)
        try:
            return await restore(await asyncio.to_thread(postgres.start), file, passwords)
        finally:
            await asyncio.to_thread(postgres.stop)


def main() -> int:
    """The command line; returns the exit status."""
    top = argparse.ArgumentParser(prog="python -m services.backup", description="Save or restore.")
    top.add_argument("command", choices=("save", "restore"))
    top.add_argument("file", type=Path)
    options = top.parse_args()
    settings = Settings(os.environ)
    data_dir = Path(settings.text("DATA_DIR", ".data")).absolute()
    url, file = settings.text("DATABASE_URL"), options.file.absolute()
    try:
        if options.command == "restore" and not file.is_file():
            top.error(f"{file} is not there")
        if options.command == "save":
            asyncio.run(_save(data_dir, url, file))
            print(f"saved to {file}")
        else:
            print(f"restored; {told(asyncio.run(_restore(data_dir, url, file)))}")
    except (BackupError, DataDirError, EmbeddedPostgresError, MigrationError, OSError) as error:
        print(f"docker-job backup: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
