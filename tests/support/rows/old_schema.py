"""A schema as an earlier release left it, to be filled with its rows and then upgraded."""

import contextlib
import shutil
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.postgres.migrations import Schema, migrate
from shared.postgres.pool import connect


@dataclass(frozen=True)
class OldSchema:
    """A schema of its own; *conn* is the admin's, with it as the search path."""

    conn: Any
    _database_url: str
    _schema: Schema
    _sql: Path

    async def migrate(self, pattern: str) -> None:
        """Apply the files that fit *pattern* too."""
        [directory] = self._schema.directories.values()
        for path in self._sql.glob(pattern):
            shutil.copy(path, directory)
        await migrate(self._database_url, [self._schema])


@contextlib.asynccontextmanager
async def old_schema(
    database_url: str, tmp_path: Path, sql: Path, pattern: str
) -> AsyncIterator[OldSchema]:
    """One with the files of *sql* that fit *pattern*."""
    room = f"room_{uuid.uuid4().hex[:8]}"
    directory = tmp_path / sql.parent.name / "sql"
    directory.mkdir(parents=True)
    conn: Any = await connect(database_url)
    try:
        schema = Schema(
            name=room, password="secret", directories={directory.parent.name: directory}
        )
        old = OldSchema(conn, database_url, schema, sql)
        await old.migrate(pattern)
        await conn.execute(f'SET search_path = "{room}"')
        yield old
    finally:
        await conn.execute(f'DROP SCHEMA IF EXISTS "{room}" CASCADE')
        await conn.execute(f'DROP ROLE IF EXISTS "{room}"')
        await conn.close()
