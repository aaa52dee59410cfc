"""The database of a backup in the place of the present one: complete, or not at all.

It is loaded beside the present database, prepared for the services, and takes the name in one
transaction. The former database is kept until the next restore.
"""

import asyncio
import contextlib
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from embedded import dump
from embedded.backup_file import BackupError
from embedded.tables import NEEDED, OTHERS, read_tables
from operations.migrate import migrate_all
from operations.resend import Settled, settle
from shared.postgres.pool import Connection, connect

INCOMING = "docker_job_incoming"
FORMER = "docker_job_former"
OBSOLETE = "docker_job_obsolete"
"""The former database of the restore before, for the length of a restore."""
MAINTENANCE = "template1"
"""The database to connect to while the one in use is renamed."""

OBJECT_IN_USE = "55006"
SESSION_TRIES, SESSION_SECONDS = 20, 0.1

SESSIONS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


async def replace_database(dsn: str, file: Path, passwords: dict[str, str]) -> Settled:
    """Replace the database of *dsn* with the verified dump, and prepare it for the services.

    Raises `BackupError` if it is not ours, or is in use.
    """
    name = await _replaceable(dsn)
    conn = await connect(at_database(dsn, MAINTENANCE), command_seconds=None)
    try:
        await _drop(conn, INCOMING)
        await conn.execute(f'CREATE DATABASE "{INCOMING}" TEMPLATE template0')
        try:
            settled = await _load(at_database(dsn, INCOMING), file, passwords)
            await _swap(conn, name)
        except BaseException:  # an incomplete one would only fill the disk
            with contextlib.suppress(Exception):
                await _drop(conn, INCOMING)
            raise
        await _drop(conn, OBSOLETE)
        return settled
    finally:
        await conn.close(timeout=5)


def at_database(dsn: str, database: str) -> str:
    """Return *dsn* with another database's name."""
    parts = urlsplit(dsn)
    path = f"/{quote(database, safe='')}"
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


async def _replaceable(dsn: str) -> str:
    """Return the name of the database. Raises `BackupError` if it must not be replaced."""
    conn = await connect(dsn)
    try:
        name = str(await conn.fetchval("SELECT current_database()"))
        tables = await read_tables(conn)
        sessions = await _sessions(conn)
    finally:
        await conn.close(timeout=5)
    if name in (INCOMING, FORMER, OBSOLETE, MAINTENANCE, "template0"):
        raise BackupError(f"The database {name} cannot be replaced: {OTHERS}")
    if tables and not tables & NEEDED:
        raise BackupError(f"The database to be replaced is not docker-job's: {OTHERS}")
    if sessions:
        raise _in_use(name)
    return name


async def _sessions(conn: Connection) -> int:
    """Count the other sessions; one that has just been closed may stay for a moment."""
    found = 0
    for _ in range(SESSION_TRIES):
        found = await conn.fetchval(SESSIONS)
        if not found:
            break
        await asyncio.sleep(SESSION_SECONDS)
    return found


def _in_use(name: str) -> BackupError:
    return BackupError(
        f"The database {name} is in use: stop docker-job and its commands, then restore; nothing "
        "was replaced"
    )


async def _load(dsn: str, file: Path, passwords: dict[str, str]) -> Settled:
    await dump.load(dsn, file)
    await migrate_all(dsn, passwords)
    return await settle(dsn)


async def _drop(conn: Connection, name: str) -> None:
    await conn.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


async def _swap(conn: Connection, name: str) -> None:
    """Give the loaded database the name of the present one, which becomes the former one."""
    await _drop(conn, OBSOLETE)  # of a restore that was killed
    exists = "SELECT true FROM pg_database WHERE datname = $1"
    try:
        async with conn.transaction():
            if await conn.fetchval(exists, FORMER):
                await conn.execute(f'ALTER DATABASE "{FORMER}" RENAME TO "{OBSOLETE}"')
            await conn.execute(f'ALTER DATABASE "{name}" RENAME TO "{FORMER}"')
            await conn.execute(f'ALTER DATABASE "{INCOMING}" RENAME TO "{name}"')
    except Exception as error:
        if getattr(error, "sqlstate", None) != OBJECT_IN_USE:
            raise
        raise _in_use(name) from error
