"""The names of the doctor's checks, as its source has them: the second argument of `found.add`.

It is a text, a constant of the module or the function, an f-string (each value stands for any
text), or a parameter: then the callers' second arguments are the names.
"""

import ast
import fnmatch
from collections.abc import Iterable, Iterator
from pathlib import Path

FOUND = "found"
ANY = "*"


def names_of_checks(*rooms: Path) -> set[str]:
    """Return the names, with `*` for what only a run can tell."""
    return {
        name
        for room in rooms
        for path in sorted(room.glob("*.py"))
        for name in _names(ast.parse(path.read_text()))
    }


def any_fits(pattern: str, names: Iterable[str]) -> bool:
    """Return whether one of *names* fits *pattern*."""
    return any(fnmatch.fnmatchcase(each, pattern) for each in names)


def _names(tree: ast.Module) -> Iterator[str]:
    constants = _constants(tree)
    for function in ast.walk(tree):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            known = constants | _constants(function)
            parameters = {each.arg for each in function.args.args}
            for given in _second_arguments(function):
                yield from _resolve(given, known, parameters)


def _second_arguments(function: ast.AST) -> Iterator[ast.expr]:
    """Yield those of `found.add(status, name, …)` and of `helper(found, name, …)`."""
    for call in ast.walk(function):
        if not isinstance(call, ast.Call) or len(call.args) < 2:
            continue
        adds = isinstance(call.func, ast.Attribute) and call.func.attr == "add"
        owner = call.func.value if isinstance(call.func, ast.Attribute) else call.args[0]
        text = isinstance(call.args[1], (ast.Constant, ast.JoinedStr))
        if isinstance(owner, ast.Name) and owner.id == FOUND and (adds or text):
            yield call.args[1]


def _resolve(given: ast.expr, known: dict[str, str], parameters: set[str]) -> Iterator[str]:
    if isinstance(given, ast.Constant):
        yield str(given.value)
    elif isinstance(given, ast.JoinedStr):
        yield "".join(
            str(each.value) if isinstance(each, ast.Constant) else ANY for each in given.values
        )
    elif isinstance(given, ast.Name) and given.id in known:
        yield known[given.id]
    elif not (isinstance(given, ast.Name) and given.id in parameters):
        raise AssertionError(f"the name of a check cannot be read: {ast.unparse(given)}")


def _constants(owner: ast.AST) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in ast.iter_child_nodes(owner):
        if isinstance(each, ast.Assign) and isinstance(each.targets[0], ast.Name):
            texts = [*_resolve(each.value, {}, set())] if _is_text(each.value) else []
            found |= dict.fromkeys([each.targets[0].id], *texts) if texts else {}
    return found


def _is_text(given: ast.expr) -> bool:
    constant = isinstance(given, ast.Constant) and isinstance(given.value, str)
    return constant or isinstance(given, ast.JoinedStr)
