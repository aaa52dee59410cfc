"""docs/reliability.md names a test for each promise: each of them exists."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "reliability.md").read_text()
NAMED = re.compile(r"`([a-z0-9_/]+\.py)::(\w+)`")


def names_in(path: Path) -> set[str]:
    """Return the tests of a file: functions, classes, and the name of a state machine."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


def test_each_test_that_the_page_names_is_there() -> None:
    named = NAMED.findall(PAGE)
    assert len(named) > 100
    missing = [
        f"{file}::{name}"
        for file, name in named
        if not (ROOT / "tests" / file).is_file() or name not in names_in(ROOT / "tests" / file)
    ]
    assert missing == []


def test_each_row_of_a_table_names_a_test() -> None:
    before, _, _ = PAGE.partition("## Not shown yet")
    rows = [line for line in before.splitlines() if line.startswith("| ") and line[2:] != "|"]
    bare = [
        row for row in rows if not NAMED.search(row) and not row.startswith(("| promise", "| fa"))
    ]
    assert bare == []
