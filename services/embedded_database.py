"""The embedded database for a command: the running system's, or started while the command runs."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from services.data_dir import DataDirError, lock_data_dir
from services.embedded_postgres import EmbeddedPostgres

POSTGRES = "postgres"
"""Its directory within the data directory."""


@contextlib.asynccontextmanager
async def borrowed_database(data_dir: Path) -> AsyncIterator[str]:
    """The superuser's DSN while the block runs. Raises `EmbeddedPostgresError`."""
    postgres = EmbeddedPostgres(data_dir / POSTGRES)
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(DataDirError):  # held: the system runs, and keeps its Postgres
            stack.enter_context(lock_data_dir(data_dir))
            stack.callback(postgres.stop)
        yield await asyncio.to_thread(postgres.start)
