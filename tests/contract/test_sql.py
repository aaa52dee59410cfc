"""Every statement against a migrated database, under the role that runs it; and that role's limits.

`PREPARE` finds a table or column that a migration no longer has, a type that does not fit, and a
right that is missing, without running anything.
"""

import ast
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest

from operations.migrate import service_dsn
from operations.wiring import SERVICES
from shared.messaging import dead_letter_report, dead_letters
from shared.messaging import store as messages
from shared.postgres import wakeups
from shared.postgres.pool import Connection, Database, connect
from tests.conftest import PASSWORDS
from tests.support.rows.statements import statements_of, store_modules

ROOT = Path(__file__).resolve().parent.parent.parent
NAMES = tuple(service.NAME for service in SERVICES)
RUNS = {"execute", "executemany", "fetch", "fetchrow", "fetchval", "cursor", "prepare"}


SHARED = tuple(module.__name__ for module in (messages, dead_letters, dead_letter_report, wakeups))


@pytest.mark.parametrize("service", NAMES)
async def test_every_statement_can_be_prepared_under_the_services_own_role(
    service: str, service_db: Callable[[str], Awaitable[Database]]
) -> None:
    db = await service_db(service)
    wrong = {}
    found = statements_of(*store_modules(service), *SHARED)
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
    modules = [module for service in NAMES for module in store_modules(service)]
    modules += [f"shared.messaging.{name}" for name in ("store", "dead_letters")]
    modules.append("shared.messaging.dead_letter_report")
    paths = [ROOT / f"{module.replace('.', '/')}.py" for module in modules]
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
    """Return whether the server refuses *sql* for want of a right."""
    try:
        await conn.execute(sql)
    except asyncpg.InsufficientPrivilegeError:
        if conn.is_in_transaction():
            await conn.execute("ROLLBACK")
        return True
    return False


async def tables_of(database_url: str, schemas: tuple[str, ...]) -> list[str]:
    """Return the qualified names of all tables in *schemas*."""
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
