"""Pages of the documentation that name a test in each row of their tables."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
NAMED = re.compile(r"`([a-z0-9_/]+\.py)::(\w+)`")
"""A test: its file under `tests/`, and its name."""


def rows_of_tables(page: str) -> list[str]:
    """Return the rows of all tables of a Markdown *page*, without their headers."""
    lines = page.splitlines()
    return [
        line
        for line, below in zip(lines, [*lines[1:], ""], strict=True)
        if line.startswith("| ") and not below.startswith("|---")
    ]


def missing_tests(page: str) -> list[str]:
    """Return the tests that *page* names and that do not exist."""
    return [
        f"{file}::{name}"
        for file, name in NAMED.findall(page)
        if not (ROOT / "tests" / file).is_file() or name not in _names_in(ROOT / "tests" / file)
    ]


def _names_in(path: Path) -> set[str]:
    """Return the tests of a file: functions, classes, and the name of a state machine."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found
