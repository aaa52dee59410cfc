"""Errors of Postgres and its client: their messages quote values, and ours do not."""

from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest
import structlog

from shared.log import mask, redact
from shared.postgres.pool import Database, connect

SECRET = "canary9d41f7"
DIGITS = "4711081547"

WRONG: dict[str, tuple[str, tuple[Any, ...]]] = {
    "a row that a constraint refuses": (
        "INSERT INTO parked VALUES ($1, 'n', 'x', 'no such state', 1, $2, now(), now())",
        ("6f2c5b6e-6a52-4d0f-9a5e-1f6a3b1f7a10", SECRET),
    ),
    "a key that is there already": (
        """INSERT INTO idempotency_keys SELECT $1::text, '', 1, '', now()
        FROM generate_series(1, 2)""",
        (SECRET,),
    ),
    "a value that is no number": (f"SELECT '{SECRET}'::integer", ()),
    "a value that is no time": ("SELECT $1::text::timestamptz", (SECRET,)),
    "a value that is no uuid": ("SELECT $1::text::uuid", (SECRET,)),
    "a value that is no JSON": ("SELECT $1::text::jsonb", (f'{{"A": {SECRET}',)),
    "an argument of the wrong kind": ("SELECT $1::integer", (SECRET,)),
    "an argument that is no bytes": ("SELECT $1::bytea", ([SECRET],)),
    "an argument in a list": ("SELECT $1::integer[]", ([1, SECRET],)),
    "a time that cannot be": ("SELECT ('2026-13-45 ' || $1::text)::timestamptz", (SECRET,)),
    "a number that is too large": ("SELECT $1::text::smallint", (f"99999{DIGITS}",)),
    "what a function raises": (
        f"DO $$ BEGIN RAISE EXCEPTION 'no' USING DETAIL = 'password={SECRET}'; END $$",
        (),
    ),
}


@pytest.mark.parametrize("what", WRONG)
async def test_no_error_of_the_database_quotes_a_value_in_a_log_line_or_a_parked_row(
    service_db: Callable[[str], Awaitable[Database]], what: str
) -> None:
    sql, values = WRONG[what]
    db = await service_db("api")
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, TypeError)) as caught:
        async with db.transaction() as tx:
            await tx.conn.execute(sql, *values)
    error = caught.value
    secret = DIGITS if DIGITS in str(values) else SECRET
    assert secret in f"{error}", "or this shows nothing"
    entry = {"event": "failed", "exc_info": (type(error), error, error.__traceback__)}
    traced = structlog.processors.format_exc_info(None, "error", dict(entry))
    line = redact(None, "error", traced)
    for shown in (str(line), mask(f"{type(error).__name__}: {error}"), mask(repr(error))):
        assert secret not in shown
        assert type(error).__name__ in shown, "what kind of error it was is still shown"


async def test_a_refused_login_does_not_quote_the_password(database_url: str) -> None:
    query = database_url.partition("?")[2]
    with pytest.raises(asyncpg.InvalidPasswordError) as caught:
        await connect(f"postgresql://api:{SECRET}@/postgres?{query}")
    assert SECRET not in mask(str(caught.value))


async def test_a_terminal_status_cannot_be_changed_by_any_statement(
    service_db: Callable[[str], Awaitable[Database]], database_url: str
) -> None:
    """The trigger is the second lock; the first is the decision."""
    db = await service_db("api")
    insert = """INSERT INTO jobs (docker_image, env_vars, labels, scheduled_for, timezone, status,
        attempt, trace, created_at, finished_at)
        VALUES ('alpine', '{}', '{}', now(), 'UTC', $1, 1, 't', now(), now()) RETURNING id"""
    terminal = ("DONE", "FAILED", "CANCELLED")
    for status in terminal:
        async with db.transaction() as tx:
            job_id = await tx.conn.fetchval(insert, status)
        for other in {*terminal, "SCHEDULED", "RUNNING"} - {status}:
            for open_as in (db.dsn, database_url):
                conn = await connect(open_as)
                try:
                    with pytest.raises(asyncpg.RaiseError, match=f"is {status} and cannot become"):
                        await conn.execute(
                            "UPDATE api.jobs SET status = $2 WHERE id = $1", job_id, other
                        )
                finally:
                    await conn.close()
        async with db.connection() as own:
            same = await own.execute("UPDATE jobs SET status = status WHERE id = $1", job_id)
            assert same == "UPDATE 1"
