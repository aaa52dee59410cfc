"""The sessions of a pool: their settings, their types, and how they end."""

from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec

if TYPE_CHECKING:
    _Base = asyncpg.Connection[Any]
else:
    _Base = asyncpg.Connection

CLOSE_SECONDS = 5.0
"""Time limit for closing a connection in order."""

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


def settings_of(schema: str, statement_seconds: float) -> dict[str, str]:
    """Return the settings of a session, for the startup message.

    Every statement runs with the service's own role and its schema as the search path, so no SQL
    names a schema.
    """
    milliseconds = str(int(statement_seconds * 1000))
    return {
        "search_path": schema,
        "timezone": "UTC",
        "statement_timeout": milliseconds,
        "lock_timeout": milliseconds,
        "idle_in_transaction_session_timeout": milliseconds,
        **_BY_INDEX,
    }


class Session(_Base):
    """A connection whose end is no error: it may be dead already, or its server silent.

    The pool closes a connection that it replaces in a task of its own, whose error nothing awaits.
    """

    __slots__ = ()

    async def close(self, *, timeout: float | None = None) -> None:
        try:
            await super().close(timeout=CLOSE_SECONDS if timeout is None else timeout)
        except (
            OSError,
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
        ):
            self.terminate()


async def leave_as_it_is(_conn: object) -> None:
    """Reset nothing: the pool has rolled back, and no statement of ours changes its session.

    asyncpg's own reset (RESET ALL, UNLISTEN and more) is a round trip for each transaction.
    """


def json_text(value: object) -> str:
    """Encode *value* as JSON, for an array of text that a statement casts to jsonb.

    In a jsonb[] a list would be taken for a dimension.
    """
    return msgspec.json.encode(value).decode()


def json_or_null(value: object) -> str | None:
    """Encode *value* as `json_text` does; None stays NULL."""
    return None if value is None else json_text(value)


async def set_codecs(conn: "asyncpg.Connection[Any]") -> None:
    """Read and write jsonb as Python values, through msgspec."""
    await conn.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=json_text,
        decoder=msgspec.json.decode,
    )
