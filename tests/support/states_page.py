"""The states of a column as `docs/states.md` draws them and as the database checks them.

A diagram is a mermaid block that names its column in a comment: `%% api.jobs.status`.
"""

import re
from pathlib import Path

from shared.postgres.pool import Connection
from shared.states import Transitions

PAGE = Path(__file__).resolve().parent.parent.parent / "docs/states.md"
_BLOCK = re.compile(r"```mermaid\n(.*?)```", re.DOTALL)
_ARROW = re.compile(r"^\s*(\w+) --> (\w+)(?:: .+)?$", re.MULTILINE)
_LITERAL = re.compile(r"'(\w+)'")


def drawn_transitions(column: str) -> Transitions:
    """Return the transitions in the diagram of *column* ("schema.table.column")."""
    [block] = [each for each in _BLOCK.findall(PAGE.read_text()) if f"%% {column}\n" in each]
    arrows = _ARROW.findall(block)
    assert len(arrows) == block.count("-->"), block
    states = dict.fromkeys(state for arrow in arrows for state in arrow)
    return {
        state: frozenset(target for source, target in arrows if source == state) for state in states
    }


def tabled_states() -> list[str]:
    """Return the states in the table whose first column is headed "state", in the table's order."""
    rows = PAGE.read_text().split("\n| state |")[1].split("\n\n")[0].splitlines()
    return [state for row in rows[2:] for state in re.findall(r"`(\w+)`", row.split("|")[1])]


CHECKS = """
SELECT pg_get_constraintdef(con.oid) FROM pg_constraint con
JOIN pg_attribute att ON att.attrelid = con.conrelid AND con.conkey = ARRAY[att.attnum]
WHERE con.contype = 'c' AND con.conrelid = $1::text::regclass AND att.attname = $2
"""


async def checked_states(conn: Connection, table: str, column: str) -> set[str]:
    """Return the values that the check constraint on *column* of *table* allows."""
    [check] = [row[0] for row in await conn.fetch(CHECKS, table, column)]
    return literals(check)


def literals(sql: str) -> set[str]:
    """Return the quoted strings in *sql*."""
    return set(_LITERAL.findall(sql))
