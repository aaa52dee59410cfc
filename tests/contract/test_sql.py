"""Every statement against a migrated database, under the role that runs it; and what that may not.

`PREPARE` finds a table or column that a migration no longer has, a type that does not fit, and a
right that is missing, without running anything.
"""

import ast
import importlib
import pkgutil
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from services.migrate import SERVICES, service_dsn
from shared import dead_letters, messaging, wakeups
from shared.db import Connection, Database, connect
from tests.conftest import PASSWORDS

ROOT = Path(__file__).resolve().parent.parent.parent
NAMES = tuple(service.NAME for service in SERVICES)
STATEMENT = re.compile(r"\s*(WITH|SELECT|INSERT|UPDATE|DELETE)\s")
RUNS = {"execute", "executemany", "fetch", "fetchrow", "fetchval", "cursor", "prepare"}


def statements(module: str) -> dict[str, str]:
    """The upper-case constants of *module* that are SQL."""
    return {
        f"{module}.{name}": value
        for name, value in vars(importlib.import_module(module)).items()
        if name.isupper() and not name.startswith("_") and isinstance(value, str)
        if STATEMENT.match(value)
    }


def store_modules(service: str) -> Iterator[str]:
    """The modules that hold the SQL of *service*."""
    package = importlib.import_module(f"services.{service}.store")
    yield package.__name__
    for found in pkgutil.iter_modules(getattr(package, "__path__", ())):
        yield f"{package.__name__}.{found.name}"


SHARED = tuple(module.__name__ for module in (messaging, dead_letters, wakeups))


@pytest.mark.parametrize("service", NAMES)
async def test_every_statement_can_be_prepared_under_the_services_own_role(
    service: str, service_db: Callable[[str], Awaitable[Database]]
) -> None:
    db = await service_db(service)
    wrong = {}
    found: dict[str, str] = {}
    for module in (*store_modules(service), *SHARED):
        found |= statements(module)
    async with db.connection() as conn:
        for name, sql in found.items():
            try:
                await conn.prepare(sql)
            except asyncpg.PostgresError as error:
                wrong[name] = str(error)
    assert wrong == {}
    assert len(found) > 15


def test_no_store_runs_a_statement_that_has_no_name() -> None:
    """A literal or an f-string in a call would escape the test above."""
    paths = [*ROOT.glob("services/*/store.py"), *ROOT.glob("services/*/store/*.py")]
    paths += [ROOT / "shared/messaging.py", ROOT / "shared/dead_letters.py"]
    nameless = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in RUNS
        and not isinstance(node.args[0], ast.Name)
    ]
    assert nameless == []
    assert len(paths) >= 8


# -- what each role is refused ---------------------------------------------------------------------


async def refused(conn: Connection, sql: str) -> bool:
    """Whether the server itself says no to *sql* for want of a right."""
    try:
        await conn.execute(sql)
    except asyncpg.InsufficientPrivilegeError:
        if conn.is_in_transaction():
            await conn.execute("ROLLBACK")
        return True
    return False


async def tables_of(database_url: str, schemas: tuple[str, ...]) -> list[str]:
    """The qualified names of all tables in *schemas*."""
    conn = await connect(database_url)
    try:
        rows = await conn.fetch(
            "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables"
            " WHERE schemaname = ANY ($1)",
            schemas,
        )
    finally:
        await conn.close()
    return [row["name"] for row in rows]


@pytest.mark.parametrize("service", NAMES)
async def test_each_service_is_refused_every_table_of_the_others(
    service: str, database_url: str
) -> None:
    others = tuple(name for name in (*NAMES, "migrations") if name != service)
    tables = await tables_of(database_url, others)
    assert len(tables) > len(others)
    conn = await connect(service_dsn(database_url, service, PASSWORDS[service]))
    try:
        let_in = [
            sql
            for table in tables
            for sql in (
                f"SELECT FROM {table}",
                f"DELETE FROM {table}",  # noqa: S608 - the server's names
                f"INSERT INTO {table} DEFAULT VALUES",
                f"BEGIN; LOCK TABLE {table}",
                f"TRUNCATE {table}",
            )
            if not await refused(conn, sql)
        ]
    finally:
        await conn.close()
    assert let_in == []


@pytest.mark.parametrize("service", NAMES)
async def test_each_service_may_read_and_write_its_own_rows_and_nothing_else(
    service: str, database_url: str
) -> None:
    other = next(name for name in NAMES if name != service)
    forbidden = (
        f"CREATE TABLE {service}.more (id int)",
        f"ALTER TABLE {service}.outbox ADD COLUMN more int",
        f"DROP TABLE {service}.parked",
        f"TRUNCATE {service}.inbox",
        "CREATE TABLE public.more (id int)",
        "CREATE SCHEMA more",
        "CREATE ROLE more",
        f"SET ROLE {other}",
        f"ALTER ROLE {service} SUPERUSER",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "SELECT pg_read_file('/etc/passwd')",
    )
    conn = await connect(service_dsn(database_url, service, PASSWORDS[service]))
    try:
        assert await conn.fetchval(f"SELECT count(*) FROM {service}.outbox") == 0  # noqa: S608
        assert [sql for sql in forbidden if not await refused(conn, sql)] == []
    finally:
        await conn.close()


@pytest.mark.parametrize("service", NAMES)
async def test_a_service_cannot_log_in_with_anothers_password(
    service: str, database_url: str, postgres_server: str
) -> None:
    other = next(name for name in NAMES if name != service)
    with pytest.raises(asyncpg.InvalidPasswordError):
        await connect(service_dsn(database_url, service, PASSWORDS[other]))
