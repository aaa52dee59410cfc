"""Every point that the code names, read from the code: a new one cannot be forgotten."""

import ast
from pathlib import Path

from operations.wiring import SERVICES
from tests.support.systems.embedded_system import ROOT

NAMES = tuple(service.NAME for service in SERVICES)

OF_COMMANDS = {"deadletters.put_back"}
"""Passed by an operator's command, not by a service; tests/integration/test_deadletters.py ends it
there."""

OF_NOTICES = {"reaper.noticed", "reaper.notices_recorded"}
"""Passed where the cloud has a channel of notices; tests/integration/test_ec2_reaper.py kills the
reaper there."""

OF_ABSENCES = {"reaper.asking", "reaper.answered"}
"""Passed where the cloud's lists do not show an instance; tests/integration/test_reaper_absence.py
ends the reaper there."""

OF_CONSOLES = {"reaper.consoles_read"}
"""Passed where a console comes after its instance's end; tests/integration/test_reaper_consoles.py
ends the reaper there."""


def all_points() -> list[str]:
    """Return the points of the services, in the order of the files and lines that name them."""
    found: dict[str, None] = {}
    for directory in ("shared", "services"):
        for path in sorted((ROOT / directory).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if _reaches(node):
                    found.update(dict.fromkeys(_points(path, node)))
    elsewhere = OF_COMMANDS | OF_NOTICES | OF_ABSENCES | OF_CONSOLES
    return [point for point in found if point not in elsewhere]


def _reaches(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "reached"
    )


def _points(path: Path, node: ast.AST) -> list[str]:
    """Return the names in one call: one, or that of each queue's own."""
    assert isinstance(node, ast.Call)
    match node.args:
        case [ast.Constant(value=str(point))]:
            return [point]
        case [
            ast.JoinedStr(
                values=[
                    ast.FormattedValue(value=ast.Attribute(attr="service")),
                    ast.Constant(value=str(rest)),
                ]
            )
        ]:
            return [f"{name}{rest}" for name in NAMES]
    raise AssertionError(f"{path.relative_to(ROOT)}:{node.lineno}: this point has no plain name")
