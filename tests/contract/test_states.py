"""The states of timers, launches and instances: one declaration, with which all else agrees.

The declaration is the service's TRANSITIONS. A type, a check constraint, a diagram and the
statements name the same states.
"""

import re
from types import ModuleType
from typing import get_args

import pytest

from services.launcher import model as launcher
from services.reaper import model as reaper
from services.scheduler import model as scheduler
from shared.postgres.pool import connect
from tests.support.rows.statements import statements_of, store_modules
from tests.support.states_page import checked_states, drawn_transitions, literals

pytestmark = pytest.mark.anyio

STATE_NAMED = re.compile(r"\bstate (?:=|<>|IN) (\([^)]*\)|'\w+')|\bCASE \S*state WHEN '\w+'")

MACHINES = pytest.mark.parametrize(
    ("service", "table", "model"),
    [
        ("scheduler", "timers", scheduler),
        ("launcher", "launches", launcher),
        ("reaper", "instances", reaper),
    ],
)


@MACHINES
def test_every_state_is_declared_and_can_be_named(
    service: str, table: str, model: ModuleType
) -> None:
    targets = set().union(*model.TRANSITIONS.values())
    assert targets <= set(model.TRANSITIONS), f"{service}.{table}"
    assert set(get_args(model.State)) == set(model.TRANSITIONS)


@MACHINES
def test_the_diagram_shows_the_declared_transitions(
    service: str, table: str, model: ModuleType
) -> None:
    assert drawn_transitions(f"{service}.{table}.state") == model.TRANSITIONS


@MACHINES
async def test_the_database_allows_the_declared_states(
    database_url: str, service: str, table: str, model: ModuleType
) -> None:
    conn = await connect(database_url)
    try:
        checked = await checked_states(conn, f"{service}.{table}", "state")
    finally:
        await conn.close()
    assert checked == set(model.TRANSITIONS)


@MACHINES
def test_statements_name_declared_states_alone(service: str, table: str, model: ModuleType) -> None:
    statements = statements_of(*store_modules(service))
    named = {
        state
        for sql in statements.values()
        for found in STATE_NAMED.finditer(sql)
        for state in literals(found[0])
    }
    assert named, f"{service}.{table}"
    assert named <= set(model.TRANSITIONS)
