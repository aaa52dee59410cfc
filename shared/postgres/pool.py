"""Postgres: one pool a service, transactions, and which errors are worth trying again.

    Database.transaction()   one connection, one transaction; `now` is fixed when it begins
    is_transient(error)      the database's fault or another transaction's, never the statement's
    is_not_ours(error)       a server that answers, without the login or the tables of docker-job

Every statement runs with the service's own role and its schema as the search path, so no SQL names
a schema.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias
from urllib.parse import quote

import asyncpg
import msgspec

from shared.clock import Clock

Connection: TypeAlias = "asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]"

CONNECT_SECONDS = 5.0
ACQUIRE_SECONDS = 10.0
"""How long a connection may take to be had: where all of them wait for a server that says nothing,
whoever comes next is told so and tries again, rather than joining them.
"""

CLOSE_SECONDS = 5.0
"""How long a pool may take to close by the book before its connections are cut."""

_TRANSIENT: tuple[type[BaseException], ...] = (
    OSError,  # includes ConnectionError and TimeoutError
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # admin shutdown, crash shutdown, query cancelled
    asyncpg.TransactionRollbackError,  # deadlock, serialization failure
    asyncpg.InsufficientResourcesError,  # too many connections, disk full
    asyncpg.LockNotAvailableError,
    # A plan cached before a migration changed the table; the retry prepares it anew.
    asyncpg.InvalidCachedStatementError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    # A connection whose server has said its last word while it lay in the pool: it is cut now.
    asyncpg.InternalClientError,
)


# After these a connection is cut, not given back to the pool. A server that is silent (frozen, cut
# off) would be waited for without a bound, as the client cancels its statement first; and one that
# has said its last word leaves a connection in the middle of an operation, which fails whoever gets
# it next [both tried]. Who is cancelled must not wait either.
_BREAKING: tuple[type[BaseException], ...] = (
    OSError,
    asyncio.CancelledError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.IdleInTransactionSessionTimeoutError,
)


def is_transient(error: BaseException) -> bool:
    """Whether the same work may succeed later unchanged.

    A COMMIT that timed out counts: it is *unknown*, and the inbox tells on the next try whether it
    took effect.
    """
    if isinstance(error, asyncpg.InterfaceError):
        # Of the client's own complaints only "connection is closed" and "pool is closing" pass.
        return "clos" in str(error)
    return isinstance(error, _TRANSIENT)


_NOT_OURS: tuple[type[BaseException], ...] = (
    asyncpg.InvalidAuthorizationSpecificationError,  # no such role, or another password
    asyncpg.InvalidCatalogNameError,  # no such database
    asyncpg.InvalidSchemaNameError,
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.InsufficientPrivilegeError,
)


def is_not_ours(error: BaseException) -> bool:
    """Whether the server answers, but has not what the migration makes there.

    The database, role, schema or table is missing, or they are another deployment's.
    """
    return isinstance(error, _NOT_OURS)


@dataclass(frozen=True)
class Transaction:
    """An open transaction: its connection, and the moment that all of it happens at.

    *source* is whose facts it tells, as their CloudEvents say it; *wakes* are the sweeps that its
    rows give work to once they are committed.
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
        """The `source` of what the service tells: a URI reference."""

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """One transaction: committed where the block ends, rolled back where it raises.

        A COMMIT that raises is *unknown*: only a look at the rows tells whether it took effect.
        """
        async with self.connection() as conn:
            block = conn.transaction()
            await block.start()
            try:
                yield Transaction(conn=conn, now=self.clock.now(), source=self.source)
            except BaseException as error:
                # What breaks the connection leaves nothing to roll back: `connection` cuts it.
                if not isinstance(error, _BREAKING):
                    await block.rollback()
                raise
            await block.commit()

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection without a transaction: for a single statement, which is one of its own."""
        async with asyncio.timeout(ACQUIRE_SECONDS):  # acquire's own timeout costs a task each
            conn = await self._pool.acquire()
        try:
            yield conn
        except _BREAKING as error:
            _cut(conn)
            if _says_it_died(error):
                raise ConnectionError("the connection died") from error
            raise
        finally:
            await self._pool.release(conn)

    async def ready(self) -> bool:
        """Whether the database answers within a second."""
        try:
            async with self._pool.acquire(timeout=1) as conn:
                try:
                    await conn.execute("SELECT 1", timeout=1)
                except TimeoutError:
                    _cut(conn)
                    raise
        except Exception as error:
            if is_transient(error):
                return False
            raise
        return True

    async def close(self) -> None:
        """Close by the book, within a deadline, then cut."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()


# Every statement of ours finds its rows by an index, and claims walk it in their order. What the
# planner believes of a table must not matter: a plan may be older than the burst that fills it
# [tried: analyzed when nothing waited, firing 500 visited a hundred million rows]. Claims say
# LIMIT (SELECT …), which the planner cannot read: for a limit that it knows it may sort all that
# waits. JIT would be tempted by the price that Postgres before 18 puts on what is off.
_BY_INDEX = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}


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

    *deployment* is the name that the service's events bear.

    Raises what asyncpg raises where the server cannot be reached; `is_transient` tells whether
    waiting helps.
    """
    milliseconds = str(int(statement_seconds * 1000))
    pool = await asyncpg.create_pool(
        dsn,
        min_size=1,
        max_size=connections,
        timeout=CONNECT_SECONDS,
        command_timeout=statement_seconds + 5,
        init=_set_codecs,
        reset=_leave_as_it_is,
        server_settings={
            "search_path": schema,
            "application_name": f"docker-job {schema}",
            "timezone": "UTC",
            "statement_timeout": milliseconds,
            "lock_timeout": milliseconds,
            "idle_in_transaction_session_timeout": milliseconds,
            **_BY_INDEX,
        },
    )
    return Database(pool, clock, dsn, schema, deployment)


async def connect(dsn: str, *, command_seconds: float | None = 30) -> "asyncpg.Connection[Any]":
    """A connection of one's own, outside any pool: for LISTEN and for migrations."""
    return await asyncpg.connect(dsn, timeout=CONNECT_SECONDS, command_timeout=command_seconds)


def _says_it_died(error: BaseException) -> bool:
    """Two ways of the client to say, while a connection is ours, that it has died."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and not task.cancelling()  # nobody has cancelled us
    return isinstance(error, asyncpg.InterfaceError) and "released back" in str(error)


def _cut(conn: "asyncpg.pool.PoolConnectionProxy[Any]") -> None:
    """End it without a word to the server; one that has died is gone from the pool already."""
    with contextlib.suppress(asyncpg.InterfaceError):
        conn.terminate()


async def _leave_as_it_is(_conn: object) -> None:
    """After the pool has rolled back what was left open, there is nothing to reset.

    No statement of ours changes its session. asyncpg's own reset (RESET ALL, UNLISTEN and more) is
    a round trip for each transaction.
    """


def json_text(value: object) -> str:
    """*value* as JSON, for an array of text that a statement casts to jsonb.

    In a jsonb[] a list would be taken for a dimension.
    """
    return msgspec.json.encode(value).decode()


async def _set_codecs(conn: "asyncpg.Connection[Any]") -> None:
    """Read and write jsonb as Python values, through msgspec."""
    await conn.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=json_text,
        decoder=msgspec.json.decode,
    )
