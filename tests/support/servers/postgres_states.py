"""States of a Postgres server and of a database on it, as failovers, operators and upgrades cause.

Each test has a database of its own on a server of its module's own: some states are the server's.
"""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import asyncpg

from operations.migrate import migrate_all, service_dsn
from operations.wiring import SERVICES
from shared.postgres.pool import connect
from tests.conftest import PASSWORDS, at_database
from tests.support.servers.breakable_postgres import BreakablePostgres

ROLES = tuple(service.NAME for service in SERVICES)
END_SESSIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{db}'"
RELOAD = "SELECT pg_reload_conf()"
ENDING_SECONDS = 10


@dataclass(frozen=True)
class State:
    """How to bring a database into a state and out of it, and what a service says about it.

    Statements run in the server's own database, those of *within* in the test's; one with {role}
    runs for each service. *server* acts on the whole server.
    """

    trouble: str
    """The beginning of the clause for operators."""
    advice: str
    """The clause for clients."""
    enter: Sequence[str] = ()
    leave: Sequence[str] = ()
    within: Sequence[str] = ()
    within_leave: Sequence[str] = ()
    server: tuple[Callable[[BreakablePostgres], None], Callable[[BreakablePostgres], None]] = (
        lambda _server: None,
        lambda _server: None,
    )
    reads: bool = False
    """Whether reading works."""
    sessions_ended: bool = True


SILENT = "does not answer"
LACKS = "lacks what the migration creates"
NOT_MIGRATED = f"{LACKS}: try again when it has run"

STATES: dict[str, State] = {
    "read-only for new sessions": State(
        "is read-only",
        "is read-only now: try again",
        enter=("ALTER DATABASE {db} SET default_transaction_read_only = on",),
        leave=("ALTER DATABASE {db} RESET default_transaction_read_only",),
        reads=True,
    ),
    "read-only for all": State(
        "is read-only",
        "is read-only now: try again",
        enter=("ALTER SYSTEM SET default_transaction_read_only = on", RELOAD),
        leave=("ALTER SYSTEM RESET default_transaction_read_only", RELOAD),
        reads=True,
        sessions_ended=False,
    ),
    "refuses logins": State(
        "refuses logins: ",
        "refuses logins now: try again",
        enter=("ALTER ROLE {role} NOLOGIN",),
        leave=("ALTER ROLE {role} LOGIN",),
    ),
    "has other passwords": State(
        "refuses logins: ",
        "refuses logins now: try again",
        enter=("ALTER ROLE {role} PASSWORD 'another'",),
        leave=("ALTER ROLE {role} PASSWORD 'test-{role}'",),
    ),
    "accepts no connections": State(
        "accepts no connections: ",
        "accepts no connections now: try again",
        enter=("ALTER DATABASE {db} ALLOW_CONNECTIONS false",),
        leave=("ALTER DATABASE {db} ALLOW_CONNECTIONS true",),
    ),
    "has no connection for a role": State(
        "has no free connection: ",
        "has no free connection now: try again",
        enter=("ALTER ROLE {role} CONNECTION LIMIT 0",),
        leave=("ALTER ROLE {role} CONNECTION LIMIT -1",),
    ),
    "has no connection for anyone": State(
        "has no free connection: ",
        "has no free connection now: try again",
        enter=("ALTER DATABASE {db} CONNECTION LIMIT 0",),
        leave=("ALTER DATABASE {db} CONNECTION LIMIT -1",),
    ),
    "is renamed": State(
        "is missing: ",
        "is missing now: try again",
        enter=(
            "ALTER DATABASE {db} ALLOW_CONNECTIONS false",
            "ALTER DATABASE {db} RENAME TO {db}x",
        ),
        leave=("ALTER DATABASE {db}x RENAME TO {db}", "ALTER DATABASE {db} ALLOW_CONNECTIONS true"),
    ),
    "has no schema": State(
        LACKS,
        NOT_MIGRATED,
        within=("ALTER SCHEMA {role} RENAME TO {role}_x",),
        within_leave=("ALTER SCHEMA {role}_x RENAME TO {role}",),
        sessions_ended=False,
    ),
    "lacks a column": State(
        LACKS,
        NOT_MIGRATED,
        within=(
            "ALTER TABLE {role}.inbox RENAME COLUMN handled_at TO x",
            "ALTER TABLE api.jobs RENAME COLUMN id TO x",
            "ALTER TABLE api.attempts RENAME COLUMN job_id TO x",
        ),
        within_leave=(
            "ALTER TABLE {role}.inbox RENAME COLUMN x TO handled_at",
            "ALTER TABLE api.jobs RENAME COLUMN x TO id",
            "ALTER TABLE api.attempts RENAME COLUMN x TO job_id",
        ),
        sessions_ended=False,
    ),
    "refuses the tables": State(
        LACKS,
        NOT_MIGRATED,
        within=("REVOKE ALL ON ALL TABLES IN SCHEMA {role} FROM {role}",),
        within_leave=(
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {role} TO {role}",
        ),
        sessions_ended=False,
    ),
    "is shut down": State(
        SILENT,
        "does not answer now: try again",
        server=(BreakablePostgres.stop, BreakablePostgres.start),
        sessions_ended=False,
    ),
    "is killed": State(
        SILENT,
        "does not answer now: try again",
        server=(BreakablePostgres.kill, BreakablePostgres.start),
        sessions_ended=False,
    ),
    "is frozen": State(
        SILENT,
        "does not answer now: try again",
        server=(BreakablePostgres.freeze, BreakablePostgres.thaw),
        sessions_ended=False,
    ),
}


class Place:
    """A migrated database on *server*, which tests may bring into any state."""

    def __init__(self, server: BreakablePostgres) -> None:
        self.server = server
        self.name = f"jobs_{uuid.uuid4().hex[:8]}"
        self.admin_dsn = at_database(server.admin_dsn, self.name)

    async def make(self) -> None:
        await self._run(self.server.admin_dsn, ("CREATE DATABASE {db}",))
        await migrate_all(self.admin_dsn, PASSWORDS)

    async def remove(self) -> None:
        await self._run(self.server.admin_dsn, ("DROP DATABASE {db} WITH (FORCE)",))

    def dsn(self, service: str) -> str:
        """Return the address as the role of *service*."""
        return service_dsn(self.admin_dsn, service, PASSWORDS[service])

    @contextlib.asynccontextmanager
    async def state(self, name: str) -> AsyncIterator[State]:
        """Be in the state *name* during the block."""
        state = STATES[name]
        enter, leave = state.server
        await self._run(self.admin_dsn, state.within)
        for number, statement in enumerate(state.enter):
            await self._run(self.server.admin_dsn, (statement,))
            if state.sessions_ended and number == 0:
                await self._end_sessions()
        await asyncio.to_thread(enter, self.server)
        try:
            yield state
        finally:
            await asyncio.to_thread(leave, self.server)
            await self._run(self.server.admin_dsn, state.leave)
            await self._run(self.admin_dsn, state.within_leave)

    async def rows(self, sql: str) -> list[asyncpg.Record]:
        """Return what an admin's query finds."""
        conn = await connect(self.admin_dsn)
        try:
            return list(await conn.fetch(sql))
        finally:
            await conn.close()

    async def _end_sessions(self) -> None:
        conn = await connect(self.server.admin_dsn)
        try:
            async with asyncio.timeout(ENDING_SECONDS):
                while await conn.fetch(END_SESSIONS.format(db=self.name)):
                    pass
        finally:
            await conn.close()

    async def _run(self, dsn: str, statements: Sequence[str]) -> None:
        if not statements:
            return
        conn = await connect(dsn)
        try:
            await conn.execute("SET default_transaction_read_only = off")
            for statement in statements:
                for role in ROLES if "{role}" in statement else ("",):
                    await conn.execute(statement.format(db=self.name, role=role))
        finally:
            await conn.close()
