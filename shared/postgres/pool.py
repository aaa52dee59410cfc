"""Postgres: one pool per service, and transactions.

    Database.transaction()   one connection, one transaction; `now` is fixed when it begins
    Database.trouble()       what is wrong with the database now, or None

`errors` has the classes of errors, `session` how each connection is set up.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias
from urllib.parse import quote

import asyncpg

from shared.clock import Clock
from shared.postgres import poolers
from shared.postgres.errors import (
    DatabaseUnavailable,
    is_breaking,
    is_lost,
    is_not_ours,
    is_read_only,
    is_server_wide,
    is_transient,
    means_dead_connection,
    trouble_of,
)
from shared.postgres.session import (
    Session,
    json_or_null,
    json_text,
    leave_as_it_is,
    set_codecs,
    settings_of,
)

__all__ = [
    "Connection",
    "Database",
    "DatabaseUnavailable",
    "Transaction",
    "connect",
    "is_lost",
    "is_not_ours",
    "is_transient",
    "json_or_null",
    "json_text",
    "open_database",
]

Connection: TypeAlias = "asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]"

CONNECT_SECONDS = 5.0
ACQUIRE_SECONDS = 10.0
"""Time limit for a connection from the pool: if all of them wait for a silent server, the next
caller gets an error and tries again, rather than waiting too.
"""

CLOSE_SECONDS = 5.0
"""Time limit for closing a pool in order; then its connections are cut."""

TROUBLE_SECONDS = 1.5
"""Time limit for asking what is wrong with the database."""

READ_ONLY_SECONDS = 1.0
"""The shortest time between two replacements of all connections to a server that is read-only."""

NOTED_SECONDS = 6.0
"""How long a missing table or a full disk counts as trouble after a statement has failed for it:
longer than a sweep or a consumer waits before it tries again.
"""

STATE = """
SELECT current_setting('transaction_read_only') = 'on' AS read_only,
    to_regclass('outbox') IS NULL AS empty
"""


@dataclass(frozen=True)
class Transaction:
    """An open transaction: its connection, and the time of all that it writes.

    *source* is the CloudEvents source of its events; *wakes* are the sweeps to wake once it is
    committed.
    """

    conn: Connection
    now: datetime
    source: str
    wakes: set[str] = field(default_factory=set)


class Database:
    """A service's pool. Build it with `open_database`."""

    def __init__(
        self, pool: "asyncpg.Pool[Any]", clock: Clock, dsn: str, schema: str, deployment: str
    ) -> None:
        self._pool = pool
        self.clock = clock
        self.dsn = dsn
        self.schema = schema
        self.source = f"/docker-job/{quote(deployment, safe='')}/{schema}"
        """The `source` of the service's events: a URI reference."""
        self._noted = (float("-inf"), "")
        self._expired_at = float("-inf")

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Run the block in one transaction: commit at its end, roll back if it raises.

        The outcome of a COMMIT that raises is *unknown*: only the rows show whether it took effect.
        """
        async with self.connection() as conn:
            block = conn.transaction()
            await block.start()
            try:
                yield Transaction(conn=conn, now=self.clock.now(), source=self.source)
            except BaseException as error:
                # With a broken connection there is nothing to roll back: `connection` cuts it.
                if not is_breaking(error):
                    await block.rollback()
                raise
            await block.commit()

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection without a transaction: for a single statement, which is its own."""
        async with asyncio.timeout(ACQUIRE_SECONDS):  # acquire's own timeout costs a task each
            conn = await self._pool.acquire()
        try:
            yield conn
        except BaseException as error:
            died = means_dead_connection(error)
            if is_breaking(error):
                _cut(conn)
            await self._note(error, lost=died or is_lost(error))
            if died:
                raise ConnectionError("the connection died") from error
            raise
        finally:
            await self._pool.release(conn)

    async def _note(self, error: BaseException, *, lost: bool) -> None:
        """Replace the pool's other connections if they may be dead or lead to the wrong server.

        Each is replaced when it is used next, so that requests do not meet them one by one.
        """
        seconds = asyncio.get_running_loop().time()
        if is_server_wide(error):
            self._noted = (seconds, trouble_of(error))
        # After a failover an old connection may stay on the server that is read-only now, or keep
        # the setting with which it began.
        stale = is_read_only(error) and seconds - self._expired_at >= READ_ONLY_SECONDS
        if lost or stale:
            self._expired_at = seconds
            await self._pool.expire_connections()

    async def trouble(self) -> str | None:
        """Return None if the database answers and takes writes, else a clause about what is wrong.

        It is for operators, such as "refuses logins: …", and comes within `TROUBLE_SECONDS`. The
        pool's connections are asked: what counts is whether the service's own work succeeds.
        """
        try:
            async with asyncio.timeout(TROUBLE_SECONDS):
                try:
                    return await self._ask()
                except Exception as error:
                    if not is_lost(error):
                        raise
                return await self._ask()  # over a new connection
        except Exception as error:  # noqa: BLE001 - whatever it is, the database cannot be used
            return trouble_of(error)

    async def _ask(self) -> str | None:
        async with self.connection() as conn:
            state = await conn.fetchrow(STATE)
            if state is None or state["read_only"]:
                raise asyncpg.ReadOnlySQLTransactionError("read-only")
            if state["empty"]:
                raise asyncpg.UndefinedTableError('relation "outbox" does not exist')
        seconds, noted = self._noted
        now = asyncio.get_running_loop().time()
        return noted if now - seconds < NOTED_SECONDS else None

    async def ready(self) -> bool:
        """Return whether the database answers and takes writes: see `trouble`."""
        return await self.trouble() is None

    async def close(self) -> None:
        """Close in order within a time limit, then cut."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()


async def open_database(
    dsn: str,
    schema: str,
    clock: Clock,
    *,
    connections: int = 5,
    statement_seconds: float = 30,
    deployment: str = "local",
) -> Database:
    """Connect a pool of up to *connections* to *dsn*, with *schema* as the search path.

    *deployment* is part of the source of the service's events.

    Raises asyncpg's errors if the server cannot be reached, see `is_transient`; and `BadSetting` if
    a connection pooler stands before it that does not pass on the settings of a session.
    """
    settings = settings_of(schema, statement_seconds)
    with poolers.refused():
        pool = await asyncpg.create_pool(
            dsn,
            min_size=1,
            max_size=connections,
            timeout=CONNECT_SECONDS,
            command_timeout=statement_seconds + 5,
            connection_class=Session,
            init=set_codecs,
            reset=leave_as_it_is,
            server_settings={"application_name": f"docker-job {schema}", **settings},
        )
    try:
        async with asyncio.timeout(CONNECT_SECONDS), pool.acquire() as conn:
            await poolers.check_settings(conn, settings)
    except BaseException:
        pool.terminate()
        raise
    return Database(pool, clock, dsn, schema, deployment)


async def connect(
    dsn: str, *, command_seconds: float | None = 30, settings: Mapping[str, str] | None = None
) -> "asyncpg.Connection[Any]":
    """Open a connection outside any pool: for LISTEN and for migrations."""
    return await asyncpg.connect(
        dsn,
        timeout=CONNECT_SECONDS,
        command_timeout=command_seconds,
        server_settings=dict(settings or {}),
    )


def _cut(conn: "asyncpg.pool.PoolConnectionProxy[Any]") -> None:
    """Close the socket without notice to the server; the pool has dropped a dead one already."""
    with contextlib.suppress(asyncpg.InterfaceError):
        conn.terminate()
