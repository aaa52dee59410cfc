"""The embedded database for a command: the running system's, or started for the command."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from embedded.data_dir import DataDirError, lock_data_dir, refuse_without
from embedded.postgres import EmbeddedPostgres

POSTGRES = "postgres"
"""Its directory within the data directory."""


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
    if not create:
        refuse_no_database(data_dir)
    postgres = EmbeddedPostgres(data_dir / POSTGRES)
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(DataDirError):  # locked: the system runs, and keeps its Postgres
            stack.enter_context(lock_data_dir(data_dir))
            stack.callback(postgres.stop)
        yield await asyncio.to_thread(postgres.start)
