"""The API's states are declared once: the database, the statements and the page agree with that."""

import re
from collections.abc import Awaitable, Callable
from typing import get_args

import pytest

from services.api.agents import requests
from services.api.jobs.model import (
    PHASES,
    STATE_TRANSITIONS,
    STATES,
    STATUS_TRANSITIONS,
    STATUSES,
    TERMINAL,
)
from shared.events.events import JobFinished
from shared.postgres.pool import Database
from tests.support.rows.statements import statements_of, store_modules
from tests.support.states_page import checked_states, drawn_transitions, literals, tabled_states

DEFINITIONS = """
SELECT pg_get_constraintdef(oid) AS sql FROM pg_constraint
WHERE conrelid = $1::text::regclass AND contype = 'c'
UNION ALL
SELECT pg_get_triggerdef(oid) FROM pg_trigger
WHERE tgrelid = $1::text::regclass AND NOT tgisinternal
"""
COMPARED = re.compile(r"\b(?:state|status) (?:=|<>) ('\w+')")


@pytest.fixture
async def db(service_db: Callable[[str], Awaitable[Database]]) -> Database:
    return await service_db("api")


async def test_the_database_allows_the_declared_states_and_no_other(db: Database) -> None:
    async with db.connection() as conn:
        assert await checked_states(conn, "jobs", "status") == set(STATUSES)
        assert await checked_states(conn, "attempts", "state") == set(STATES)


async def test_the_database_and_the_code_agree_on_which_statuses_are_terminal(
    db: Database,
) -> None:
    async with db.connection() as conn:
        found = [row["sql"] for row in await conn.fetch(DEFINITIONS, "jobs")]
    of_terminal = [sql for sql in found if "finished_at" in sql or "terminal_is_final" in sql]
    assert len(of_terminal) == 2
    assert [literals(sql) for sql in of_terminal] == [set(TERMINAL)] * 2


def test_the_page_draws_the_declared_transitions() -> None:
    assert drawn_transitions("api.jobs.status") == STATUS_TRANSITIONS
    assert tabled_states() == list(STATES)


def test_each_state_is_declared_with_what_may_follow_it() -> None:
    assert tuple(STATUS_TRANSITIONS) == STATUSES
    assert tuple(STATE_TRANSITIONS) == STATES
    assert [*PHASES, "ended"] == list(STATES)


def test_what_others_send_and_receive_are_declared_states() -> None:
    assert set(requests.PHASES) < set(STATES)
    assert set(get_args(JobFinished.__annotations__["status"])) == TERMINAL


def test_statements_compare_with_declared_states_alone() -> None:
    statements = statements_of(*store_modules("api")).values()
    compared = {literals(each).pop() for sql in statements for each in COMPARED.findall(sql)}
    assert compared == {"delayed", "ended", "scheduled", *TERMINAL}
    assert compared < {*STATES, *STATUSES}
