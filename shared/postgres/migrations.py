"""Migrations: schemas, roles, grants and numbered DDL, applied before any service starts.

They may run any number of times and several at once: an advisory lock serialises them. Each file is
applied once, in one transaction with the row that records it; a file that changed after it was
applied is refused by its checksum. Each service gets a schema and a login role of its own name,
without access to the others'.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.postgres import poolers
from shared.postgres.errors import LACKS, DatabaseUnavailable
from shared.postgres.pool import Connection, connect
from shared.settings import BadSetting

LOCK = 0x646F636B6A6F62  # "dockjob"
MESSAGING_SQL = Path(__file__).resolve().parent.parent / "messaging" / "sql"
_FILE_NAME = re.compile(r"(\d{4})_\w+\.sql")
_OURS = "docker-job service role"

_MIGRATED = "migrated: "

APPLIED = "SELECT obj_description(to_regnamespace($1)::oid, 'pg_namespace')"

_SESSION = {"search_path": "migrations"}
"""Each file sets its own. This one shows whether Postgres itself answers: the lock of the session
would not hold through a pooler that gives each transaction another session.
"""


class MigrationError(Exception):
    """The database is not as the migrations expect. The message names the remedy."""


@dataclass(frozen=True)
class Schema:
    """The schema of a service; schema and role have the same *name*.

    *directories* hold its numbered SQL files. Each file is recorded as applied under the key of its
    directory; the key stays the same if the directory moves. Only migrating needs the *password*.
    """

    name: str
    password: str
    directories: Mapping[str, Path]


@dataclass(frozen=True)
class Migration:
    """One numbered SQL file."""

    source: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def read_migrations(schema: Schema) -> list[Migration]:
    """Read the files of the schema, directory by directory, each in the order of their numbers."""
    found = []
    for key, directory in schema.directories.items():
        for path in sorted(directory.glob("*.sql")):
            if not _FILE_NAME.fullmatch(path.name):
                raise MigrationError(f"{path} must be named like 0001_what_it_does.sql")
            source = f"{key}/{path.name}"
            found.append(Migration(source=source, sql=path.read_text(encoding="utf-8")))
    return found


async def migrate(admin_dsn: str, schemas: Sequence[Schema]) -> list[str]:
    """Migrate the database at *admin_dsn*; return the applied files, in order.

    The role in *admin_dsn* must be able to create roles and schemas. Raises `MigrationError`.
    """
    conn = await _connect(admin_dsn)
    try:
        await conn.execute("SELECT pg_advisory_lock($1)", LOCK)
        await _prepare(conn)
        applied: list[str] = []
        for schema in schemas:
            await _ensure_role(conn, schema)
            applied += await _apply_all(conn, schema)
            await _grant(conn, schema)
        return applied
    finally:
        await conn.close(timeout=5)  # ends the session and with it the lock


async def _connect(admin_dsn: str) -> Connection:
    try:
        with poolers.refused():
            # Unbounded: a migration may take long, and so may the wait for the lock.
            conn = await connect(admin_dsn, command_seconds=None, settings=_SESSION)
        try:
            await poolers.check_settings(conn, _SESSION)
        except BaseException:
            conn.terminate()
            raise
    except BadSetting as error:
        raise MigrationError(str(error)) from error
    return conn


async def is_migrated(admin_dsn: str, schemas: Sequence[Schema]) -> bool:
    """Return whether every file of *schemas* has been applied; it only reads."""
    conn = await connect(admin_dsn)
    try:
        if await conn.fetchval("SELECT to_regclass('migrations.applied')") is None:
            return False
        rows = await conn.fetch("SELECT schema, source FROM migrations.applied")
    finally:
        await conn.close(timeout=5)
    applied = {(row["schema"], row["source"]) for row in rows}
    return all(
        (schema.name, each.source) in applied
        for schema in schemas
        for each in read_migrations(schema)
    )


async def _prepare(conn: Connection) -> None:
    version = int(await conn.fetchval("SHOW server_version_num"))
    if version < 150000:
        raise MigrationError(f"Postgres 15 or newer is needed, this server is {version // 10000}")
    await conn.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    await conn.execute(
        """
        CREATE SCHEMA IF NOT EXISTS migrations;
        CREATE TABLE IF NOT EXISTS migrations.applied (
            schema     text NOT NULL,
            source     text NOT NULL,
            checksum   text NOT NULL,
            applied_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (schema, source))
        """
    )


async def _ensure_role(conn: Connection, schema: Schema) -> None:
    """Create the role, or set its password; refuse a role that docker-job did not create."""
    comment = await conn.fetchrow(
        "SELECT shobj_description(oid, 'pg_authid') AS text FROM pg_roles WHERE rolname = $1",
        schema.name,
    )
    if comment is not None and comment["text"] != _OURS:
        raise MigrationError(
            f"this server has a role {schema.name!r} that docker-job did not make: use a server of "
            f"its own, or, if it is meant to be ours, COMMENT ON ROLE {schema.name} IS '{_OURS}'"
        )
    password = await conn.fetchval("SELECT quote_literal($1)", schema.password)
    if comment is None:
        change = "CREATE", "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT NOREPLICATION"
    else:  # to repeat NOSUPERUSER takes a superuser, which a managed Postgres does not offer
        change = "ALTER", "LOGIN"
    verb, settings = change
    async with conn.transaction():
        await conn.execute(f'{verb} ROLE "{schema.name}" {settings} PASSWORD {password}')
        await conn.execute(f"COMMENT ON ROLE \"{schema.name}\" IS '{_OURS}'")
        await conn.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema.name}"')


async def _apply_all(conn: Connection, schema: Schema) -> list[str]:
    rows = await conn.fetch(
        "SELECT source, checksum FROM migrations.applied WHERE schema = $1", schema.name
    )
    known = {row["source"]: row["checksum"] for row in rows}
    applied = []
    for migration in read_migrations(schema):
        if migration.source not in known:
            await _apply(conn, schema, migration)
            applied.append(f"{schema.name}: {migration.source}")
        elif known[migration.source] != migration.checksum:
            raise MigrationError(
                f"{migration.source} was changed after it had been applied to schema "
                f"{schema.name}: restore the file and add a new one"
            )
    return applied


async def _apply(conn: Connection, schema: Schema, migration: Migration) -> None:
    async with conn.transaction():
        await conn.execute(f'SET LOCAL search_path TO "{schema.name}"')
        await conn.execute(migration.sql)
        await conn.execute(
            "INSERT INTO migrations.applied (schema, source, checksum) VALUES ($1, $2, $3)",
            schema.name,
            migration.source,
            migration.checksum,
        )


async def _grant(conn: Connection, schema: Schema) -> None:
    """Grant the role access to the rows of its own schema, and nothing more.

    The schema's comment names the applied files for the service, which may not read their table.
    """
    name = schema.name
    rows = await conn.fetch(
        "SELECT source FROM migrations.applied WHERE schema = $1 ORDER BY source", name
    )
    applied = [row["source"] for row in rows]
    async with conn.transaction():
        await conn.execute(f'GRANT USAGE ON SCHEMA "{name}" TO "{name}"')
        await conn.execute(
            f'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA "{name}" TO "{name}"'
        )
        await conn.execute(f"COMMENT ON SCHEMA \"{name}\" IS '{_MIGRATED}{' '.join(applied)}'")
        await conn.execute(f'GRANT USAGE ON ALL SEQUENCES IN SCHEMA "{name}" TO "{name}"')


async def refuse_unmigrated(conn: Connection, schema: Schema) -> None:
    """Raise `DatabaseUnavailable` if a file of *schema* is not applied yet.

    Asked before a service's first statement: what a missing column does depends on the statement.
    """
    text: str | None = await conn.fetchval(APPLIED, schema.name)
    applied = set((text or "").removeprefix(_MIGRATED).split())
    missing = [each.source for each in read_migrations(schema) if each.source not in applied]
    if missing:
        raise DatabaseUnavailable(f"{LACKS}: {', '.join(missing)}: `migrate` must run")
