"""A service that was taken over, with its login at Postgres: what its role cannot do.

Beside `contract/test_sql.py`, which tries every table of the others.
"""

import asyncpg
import pytest

from operations.migrate import service_dsn
from shared.postgres.pool import Connection, connect
from tests.conftest import PASSWORDS

NAMES = tuple(PASSWORDS)

REFUSED = (
    asyncpg.InsufficientPrivilegeError,
    asyncpg.UndefinedFunctionError,
    asyncpg.UndefinedFileError,
    asyncpg.FeatureNotSupportedError,
    asyncpg.InvalidGrantOperationError,
)

TRIGGERED = "EXECUTE FUNCTION suppress_redundant_updates_trigger()"


def attacks(me: str, other: str, role: str) -> tuple[str, ...]:
    """Return statements that would give *me* more, of the schema *other* and of *role*."""
    return (
        # Objects
        "CREATE TABLE public.more (id int)",
        f"CREATE TABLE {other}.more (id int)",
        f"CREATE VIEW {me}.more AS SELECT 1",
        f"CREATE FUNCTION {me}.more() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        f"CREATE FUNCTION {me}.more() RETURNS int LANGUAGE c AS '/lib/libc.so', 'system'",
        f"CREATE TRIGGER more AFTER INSERT ON {me}.outbox FOR EACH ROW {TRIGGERED}",
        f"CREATE INDEX more ON {me}.outbox (id)",
        f"ALTER TABLE {me}.outbox DISABLE TRIGGER ALL",
        f"ALTER TABLE {me}.outbox OWNER TO {role}",
        f"DROP SCHEMA {me} CASCADE",
        "CREATE SCHEMA more",
        "CREATE DATABASE more",
        "CREATE EXTENSION dblink",
        "CREATE EXTENSION postgres_fdw",
        "CREATE LANGUAGE plperlu",
        f"CREATE EVENT TRIGGER more ON ddl_command_end {TRIGGERED}",
        "CREATE PUBLICATION more FOR ALL TABLES",
        "CREATE SUBSCRIPTION more CONNECTION 'host=127.0.0.1' PUBLICATION more",
        # Other roles
        "CREATE ROLE more",
        f"SET ROLE {role}",
        f"SET SESSION AUTHORIZATION {role}",
        f"GRANT {role} TO {me}",
        f"GRANT pg_read_all_data TO {me}",
        f"ALTER ROLE {me} SUPERUSER",
        f"ALTER ROLE {me} CREATEROLE",
        f"ALTER ROLE {me} REPLICATION",
        f"ALTER ROLE {role} PASSWORD 'mine'",
        f"DROP ROLE {role}",
        f"GRANT ALL ON SCHEMA {other} TO {me}",
        f"REASSIGN OWNED BY {role} TO {me}",
        "SELECT rolpassword FROM pg_authid",
        "SELECT passwd FROM pg_shadow",
        # The server and its machine
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "COPY (SELECT 1) TO '/tmp/more'",
        f"COPY {me}.outbox FROM '/etc/passwd'",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT pg_read_binary_file('pg_hba.conf')",
        "SELECT pg_ls_dir('.')",
        "SELECT lo_import('/etc/passwd')",
        "SELECT lo_export(1, '/tmp/more')",
        "LOAD '/tmp/more.so'",
        "ALTER SYSTEM SET log_statement = 'all'",
        "SELECT pg_reload_conf()",
        "SET session_replication_role = 'replica'",
        "SET log_statement = 'all'",
        "SELECT pg_switch_wal()",
        "SELECT pg_create_restore_point('more')",
        "CHECKPOINT",
        "SELECT * FROM pg_hba_file_rules",
        "SELECT pg_stat_reset()",
    )


async def got(conn: Connection, sql: str) -> bool:
    """Return whether the server does *sql* for this role; nothing of it is kept."""
    try:
        transaction = conn.transaction()
        await transaction.start()
        try:
            await conn.execute(sql)
        finally:
            await transaction.rollback()
    except asyncpg.ActiveSQLTransactionError:  # this one is never in a transaction
        try:
            await conn.execute(sql)
        except REFUSED:
            return False
    except REFUSED:
        return False
    return True


@pytest.mark.parametrize("me", NAMES)
async def test_a_service_that_was_taken_over_gets_no_more_than_its_own_rows(
    me: str, database_url: str
) -> None:
    tried, let_in = 0, []
    conn = await connect(service_dsn(database_url, me, PASSWORDS[me]))
    try:
        superuser = await conn.fetchval("SELECT rolname FROM pg_roles WHERE oid = 10")
        others = [name for name in NAMES if name != me]
        for other, role in [*zip(others, others, strict=True), (others[0], superuser)]:
            for sql in attacks(me, other, role):
                tried += 1
                if await got(conn, sql):
                    let_in.append(sql)
    finally:
        await conn.close()
    print(f"{tried - len(let_in)} of {tried} statements of {me} refused")
    assert let_in == []


@pytest.mark.parametrize("me", NAMES)
async def test_a_service_cannot_see_or_end_the_statements_of_another(
    me: str, database_url: str
) -> None:
    other = next(name for name in NAMES if name != me)
    mine = await connect(service_dsn(database_url, me, PASSWORDS[me]))
    theirs = await connect(service_dsn(database_url, other, PASSWORDS[other]))
    try:
        secret = await theirs.fetchval("SELECT 'canary-of-another' || pg_backend_pid()")
        assert secret
        pid = theirs.get_server_pid()
        shown = await mine.fetchval("SELECT query FROM pg_stat_activity WHERE pid = $1", pid)
        assert shown == "<insufficient privilege>"
        for sql in ("SELECT pg_terminate_backend($1)", "SELECT pg_cancel_backend($1)"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await mine.fetchval(sql, pid)
        assert await theirs.fetchval("SELECT 1") == 1
    finally:
        await mine.close()
        await theirs.close()
