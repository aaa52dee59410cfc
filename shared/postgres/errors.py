"""The classes of Postgres' errors, by SQLSTATE, and what each means to a caller.

    is_transient(error)        not the fault of the work: repeat it later, unchanged
      is_lost(error)           … the connection has ended, and others of the pool may be dead too
      is_read_only(error)      … this server takes no writes: it may be the old one of a failover
      needs_migration(error)   … what this release needs is not there yet: the migration must run
    is_not_ours(error)         the login, the database or its schema is missing or another's: it
                               passes only by an operator's hand. A service waits and says so; a
                               command, which cannot wait, ends with a message

An error may be in several classes. The codes:
https://www.postgresql.org/docs/current/errcodes-appendix.html. `trouble_of` and `advice_of` say in
words what is wrong, with the server's own text and without it.
"""

import asyncio

import asyncpg

from shared.log import mask

_SCHEMA = (
    "3F",  # no such schema
    "42501",  # no right: the migration grants the rights
    "42P01",  # no such table
    "42703",  # no such column
    "42704",  # no such type or other object
    "42883",  # no such function
    "42P10",  # no such unique index for ON CONFLICT
)
"""No event and no request can cause these: statements are constants, prepared in a test."""

_NOT_OURS = ("28", "3D", *_SCHEMA)

_LOST = ("08", "57P")

_TRANSIENT = (
    *_LOST,
    "25006",  # read-only
    "25P03",  # a transaction was left open for too long; 25P04: it took too long
    "25P04",
    "40",  # deadlock, serialization failure
    "53",  # connections, memory, disk
    "55",  # the database takes no connections now, or a lock was not given
    "57",  # shut down, starting, cancelled
    "58",  # input and output
    *_NOT_OURS,
)

_ENDED = ("08", "25P03", "25P04", "57")
"""After these the connection is closed, or in the middle of an operation."""

LACKS = "lacks what the migration creates"

_TROUBLES = (
    ("25006", "is read-only"),
    ("28", "refuses logins"),
    ("3D", "is missing"),
    ("57P04", "is missing"),
    ("53100", "has no disk space left"),
    ("53300", "has no free connection"),
    ("55000", "accepts no connections"),
    ("57P03", "is starting or stopping"),
    ("58", "cannot read or write its files"),
    *((code, LACKS) for code in _SCHEMA),
)
"""What is wrong, by the first code that fits."""

SILENT = "does not answer"


class DatabaseUnavailable(ConnectionError):
    """The database itself is in trouble, and not the work. *trouble* is a clause for operators."""

    def __init__(self, trouble: str) -> None:
        super().__init__(f"the database {trouble}")
        self.trouble = trouble


def code_of(error: BaseException) -> str:
    """Return the SQLSTATE of *error*; it is empty for an error of another kind."""
    code = getattr(error, "sqlstate", None) if isinstance(error, asyncpg.PostgresError) else None
    return code or ""


def is_transient(error: BaseException) -> bool:
    """Return whether the same work may succeed later, unchanged.

    A COMMIT that timed out counts: its outcome is *unknown*, and the inbox decides on the next try.
    """
    if isinstance(error, asyncpg.InterfaceError):
        # Of the client's own errors only "connection is closed" and "pool is closing" pass.
        return "clos" in str(error)
    # A plan cached before a migration changed the table is prepared again by the retry.
    passing = (OSError, asyncpg.InternalClientError, asyncpg.InvalidCachedStatementError)
    return isinstance(error, passing) or code_of(error).startswith(_TRANSIENT)


def is_lost(error: BaseException) -> bool:
    """Return whether the server or the network has ended the connection: such errors are transient.

    The pool's other connections may be lost too. A time limit is none of these: a server that is
    frozen may go on with all of them.
    """
    if isinstance(error, asyncpg.InterfaceError):
        return is_transient(error)
    # InternalClientError: the server closed a connection while it was idle in the pool.
    ended = (ConnectionError, asyncpg.InternalClientError)
    return isinstance(error, ended) or code_of(error).startswith(_LOST)


def is_cancelled(error: BaseException) -> bool:
    """Return whether the server ended the statement, as after its time limit."""
    return code_of(error) == "57014"


def is_read_only(error: BaseException) -> bool:
    """Return whether the server refuses to write: reading works."""
    return code_of(error) == "25006"


def needs_migration(error: BaseException) -> bool:
    """Return whether the schema is not as this release needs it."""
    return code_of(error).startswith(_SCHEMA)


def is_server_wide(error: BaseException) -> bool:
    """Return whether other statements fail for it too, though the server answers a question.

    The schema is not as this release needs it, the disk is full, or a file cannot be read.
    """
    return needs_migration(error) or code_of(error).startswith(("53100", "58"))


def is_not_ours(error: BaseException) -> bool:
    """Return whether the server answers, but without what the migration creates.

    The database, role, schema or table is missing, or belongs to another deployment.
    """
    return code_of(error).startswith(_NOT_OURS)


def is_breaking(error: BaseException) -> bool:
    """Return whether the connection must be cut after *error*, and not be used again.

    For a silent server (frozen, cut off) the client would wait without a limit, as it cancels its
    statement first; and a server that closed leaves a connection in the middle of an operation,
    which fails its next user [both tried]. A cancelled task must not wait either.
    """
    kinds = (OSError, asyncio.CancelledError, asyncpg.InterfaceError, asyncpg.InternalClientError)
    return isinstance(error, kinds) or code_of(error).startswith(_ENDED)


def means_dead_connection(error: BaseException) -> bool:
    """Return whether *error* means that a connection in use has died; the client has two."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and not task.cancelling()  # not cancelled by a caller
    return isinstance(error, asyncpg.InterfaceError) and "released back" in str(error)


def trouble_of(error: BaseException) -> str:
    """Return a clause about the database for operators, with the server's text: "refuses …: …"."""
    if isinstance(error, DatabaseUnavailable):
        return error.trouble
    found = _trouble(error)
    if not code_of(error) or is_read_only(error):
        return found
    if found == SILENT:
        if is_lost(error):
            return found
        found = "fails"
    return f"{found}: {mask(str(error.args[0]))}"


def advice_of(error: BaseException) -> str:
    """Return a sentence about the database for clients, who must not see the server's text."""
    if needs_migration(error):
        return f"the database {_trouble(error)}: try again when it has run"
    return f"the database {_trouble(error)} now: try again"


def _trouble(error: BaseException) -> str:
    code = code_of(error)
    return next((text for start, text in _TROUBLES if code.startswith(start)), SILENT)
