"""`python -m embedded.run keys …`: the keys of the embedded API, whether the system runs or not.

A first key may be created before the first start, as an address that others can reach needs one;
there is none to list or revoke then. A database that is not docker-job's is never migrated.
"""

import argparse
import asyncio
import contextlib
from pathlib import Path

from embedded.data_dir import DataDirError, make_private_dir, refuse_without
from embedded.database import borrowed_database
from embedded.postgres import EmbeddedPostgresError
from embedded.secrets import FILE, local_secrets
from embedded.tables import NEEDED, OTHERS, missing_tables, tables_of
from operations.migrate import migrate_all, service_dsn
from operations.wiring import SERVICES
from services.api.keys import commands as key_commands
from shared.clock import RealClock
from shared.log import configure, mask
from shared.postgres.migrations import MigrationError
from shared.postgres.pool import is_not_ours, is_transient, open_database
from shared.terminal import print_line


def run_keys(data_dir: Path, database_url: str | None, argv: list[str]) -> int:
    """Run a `keys` command line; return the exit status."""
    arguments = key_commands.parser().parse_args(argv)
    configure()  # the log is on standard error, the key alone on standard output
    try:
        return asyncio.run(_keys(data_dir, database_url, arguments))
    except (DataDirError, EmbeddedPostgresError, MigrationError) as error:
        _warn(str(error))
    except Exception as error:
        if not (is_transient(error) or is_not_ours(error)):
            raise
        _warn(mask(str(error)) or type(error).__name__)
    return 1


async def _keys(data_dir: Path, database_url: str | None, arguments: argparse.Namespace) -> int:
    create = arguments.command == "create"
    async with contextlib.AsyncExitStack() as stack:
        admin_dsn = database_url
        if admin_dsn is None:
            database = borrowed_database(data_dir, create=create)
            admin_dsn = await stack.enter_async_context(database)
        await _refuse_other(admin_dsn, data_dir, create=create)
        make_private_dir(data_dir)
        secrets = local_secrets(data_dir, tuple(service.NAME for service in SERVICES))
        await migrate_all(admin_dsn, secrets.passwords)
        dsn = service_dsn(admin_dsn, "api", secrets.passwords["api"])
        db = await open_database(dsn, "api", RealClock(), connections=2)
        stack.push_async_callback(db.close)
        return await key_commands.run(db, arguments, print_line)


async def _refuse_other(dsn: str, data_dir: Path, *, create: bool) -> None:
    """Raise `MigrationError` if the database is not docker-job's, nor to be *create*d.

    Raises `DataDirError` where it is, and *data_dir* lacks its secrets: new ones would lock out the
    services that run.
    """
    tables = await tables_of(dsn)
    ours, missing = tables & NEEDED, missing_tables(NEEDED, tables)
    if ours:
        refuse_without(data_dir, data_dir / FILE, FILE)
    if missing is not None and (not create or (tables and not ours)):
        raise MigrationError(f"This is not a database of docker-job ({OTHERS}): {missing}")
    if not tables:
        _warn(f"the database is new; its passwords are in {data_dir / FILE}")


def _warn(text: str) -> None:
    print_line(f"docker-job: {text}", error=True)
