"""Postgres: one pool per service, transactions, and the classes of errors.

    Database.transaction()   one connection, one transaction; `now` is fixed when it begins
    is_transient(error)      caused by the database or another transaction, not by the statement
    is_lost(error)           the connection was lost, and others of the pool may be too
    is_not_ours(error)       the server answers, but lacks the login or the tables of docker-job

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
"""Time limit for a connection from the pool: if all of them wait for a silent server, the next
caller gets an error and tries again, rather than waiting too.
"""

CLOSE_SECONDS = 5.0
"""Time limit for closing a pool in order; then its connections are cut."""

_LOST: tuple[type[BaseException], ...] = (
    ConnectionError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    # A connection whose server closed it while it was idle in the pool: it is cut now.
    asyncpg.InternalClientError,
)

_TRANSIENT: tuple[type[BaseException], ...] = (
    *_LOST,
    OSError,  # includes TimeoutError
    asyncpg.OperatorInterventionError,  # admin shutdown, crash shutdown, query cancelled
    asyncpg.TransactionRollbackError,  # deadlock, serialization failure
    asyncpg.InsufficientResourcesError,  # too many connections, disk full
    asyncpg.LockNotAvailableError,
    # A plan cached before a migration changed the table; the retry prepares it again.
    asyncpg.InvalidCachedStatementError,
    asyncpg.IdleInTransactionSessionTimeoutError,
)


# After these a connection is cut, not returned to the pool. For a silent server (frozen, cut off)
# the client would wait without a limit, as it cancels its statement first; and a server that closed
# leaves a connection in the middle of an operation, which fails its next user [both tried]. A
# cancelled task must not wait either.
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
    """Return whether the same work may succeed later, unchanged.

    A COMMIT that timed out counts: its outcome is *unknown*, and the inbox decides on the next try.
    """
    if isinstance(error, asyncpg.InterfaceError):
        # Of the client's own errors only "connection is closed" and "pool is closing" pass.
        return "clos" in str(error)
    return isinstance(error, _TRANSIENT)


def is_lost(error: BaseException) -> bool:
    """Return whether the server or the network has ended the connection: such errors are transient.

    The pool's other connections may be lost too; the next user of each gets the error.
    """
    if isinstance(error, asyncpg.InterfaceError):
        return is_transient(error)
    return isinstance(error, _LOST)


_NOT_OURS: tuple[type[BaseException], ...] = (
    asyncpg.InvalidAuthorizationSpecificationError,  # no such role, or another password
    asyncpg.InvalidCatalogNameError,  # no such database
    asyncpg.InvalidSchemaNameError,
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.InsufficientPrivilegeError,
)


def is_not_ours(error: BaseException) -> bool:
    """Return whether the server answers, but without what the migration creates.

    The database, role, schema or table is missing, or belongs to another deployment.
    """
    return isinstance(error, _NOT_OURS)


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
                if not isinstance(error, _BREAKING):
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
        except _BREAKING as error:
            _cut(conn)
            if _means_dead_connection(error):
                raise ConnectionError("the connection died") from error
            raise
        finally:
            await self._pool.release(conn)

    async def ready(self) -> bool:
        """Return whether the database answers within a second."""
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
        """Close in order within a time limit, then cut."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()


# Every statement finds its rows by an index, and claims read it in order. The planner's statistics
# must not matter: a plan may be older than the burst that fills the table [tried: analyzed when
# nothing waited, firing 500 visited a hundred million rows]. Claims use LIMIT (SELECT …), which the
# planner cannot evaluate: for a known limit it may sort all that waits. JIT is off since Postgres
# before 18 adds a high cost to disabled plan types, which would trigger it.
_BY_INDEX = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    # It reads all that fits before the first row: statistics from the middle of a bulk load made it
    # look cheap, and a page of 100 jobs then read all jobs of its label.
    "enable_bitmapscan": "off",
    # The indexes leave one plan, and with many rows Postgres would make it again for each call.
    "plan_cache_mode": "force_generic_plan",
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

    *deployment* is part of the source of the service's events.

    Raises asyncpg's errors if the server cannot be reached; see `is_transient`.
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
    """Open a connection outside any pool: for LISTEN and for migrations."""
    return await asyncpg.connect(dsn, timeout=CONNECT_SECONDS, command_timeout=command_seconds)


def _means_dead_connection(error: BaseException) -> bool:
    """Return whether *error* means that a connection in use has died; the client has two."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and not task.cancelling()  # not cancelled by a caller
    return isinstance(error, asyncpg.InterfaceError) and "released back" in str(error)


def _cut(conn: "asyncpg.pool.PoolConnectionProxy[Any]") -> None:
    """Close the socket without notice to the server; the pool has dropped a dead one already."""
    with contextlib.suppress(asyncpg.InterfaceError):
        conn.terminate()


async def _leave_as_it_is(_conn: object) -> None:
    """Reset nothing: the pool has rolled back, and no statement of ours changes its session.

    asyncpg's own reset (RESET ALL, UNLISTEN and more) is a round trip for each transaction.
    """


def json_text(value: object) -> str:
    """Encode *value* as JSON, for an array of text that a statement casts to jsonb.

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
