"""The evaluation of IAM policies: statements, resources and conditions, by IAM's rules.

An explicit Deny outweighs every Allow, and without an Allow nothing is allowed. All operators of a
condition must hold; one of a key's values must match.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

import fnmatch
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Context = Mapping[str, str | list[str]]
"""Condition keys, in lower case, with their values in the request."""
Statement = dict[str, Any]

VARIABLE = re.compile(r"\$\{([^}]+)\}")


def statements(documents: Iterable[str | dict[str, Any]]) -> list[Statement]:
    """Return all statements of the policy documents."""
    found: list[Statement] = []
    for document in documents:
        read = json.loads(document) if isinstance(document, str) else document
        given = read["Statement"]
        found += given if isinstance(given, list) else [given]
    return found


def allows(rules: Iterable[Statement], action: str, resource: str, context: Context) -> bool:
    """Return True if *rules* allow *action* (`ec2:RunInstances`) on *resource*, an ARN."""
    matching = [each for each in rules if _applies(each, action, resource, context)]
    return bool(matching) and all(each["Effect"] == "Allow" for each in matching)


def _applies(rule: Statement, action: str, resource: str, context: Context) -> bool:
    if "Action" in rule:
        named = _like(action.lower(), [each.lower() for each in _list(rule["Action"])])
    else:
        named = not _like(action.lower(), [each.lower() for each in _list(rule["NotAction"])])
    if "Resource" in rule:
        concerned = _like(resource, [_filled(each, context) for each in _list(rule["Resource"])])
    else:
        concerned = not _like(resource, _list(rule["NotResource"]))
    return named and concerned and _holds(rule.get("Condition") or {}, context)


def _holds(conditions: Mapping[str, Mapping[str, Any]], context: Context) -> bool:
    return all(
        _test(
            operator, key.lower(), [_filled(str(each), context) for each in _list(wanted)], context
        )
        for operator, keys in conditions.items()
        for key, wanted in keys.items()
    )


def _test(operator: str, key: str, wanted: list[str], context: Context) -> bool:
    quantifier, _, rest = operator.rpartition(":")
    name = rest.removesuffix("IfExists")
    given = context.get(key)
    if name == "Null":
        return (given is None) == (wanted[0].lower() == "true")
    values = [] if given is None else _list(given)
    if quantifier == "ForAllValues":
        return all(_compare(name, value, wanted) for value in values)
    if quantifier == "ForAnyValue":
        return any(_compare(name, value, wanted) for value in values)
    if given is None:
        # A negated operator holds for a missing key.
        return rest.endswith("IfExists") or "Not" in name
    return any(_compare(name, value, wanted) for value in values)


def _compare(operator: str, value: str, wanted: list[str]) -> bool:
    positive = operator.replace("Not", "")
    if positive.startswith("Numeric"):
        return any(NUMERIC[positive](float(value), float(each)) for each in wanted)
    test = TESTS.get(positive)
    if test is None:
        message = f"the fake AWS does not support the condition operator {operator}"
        raise ValueError(message)
    met = any(test(value, each) for each in wanted)
    return met if positive == operator else not met


NUMERIC: dict[str, Callable[[float, float], bool]] = {
    "NumericEquals": lambda value, wanted: value == wanted,
    "NumericLessThan": lambda value, wanted: value < wanted,
    "NumericLessThanEquals": lambda value, wanted: value <= wanted,
    "NumericGreaterThan": lambda value, wanted: value > wanted,
    "NumericGreaterThanEquals": lambda value, wanted: value >= wanted,
}
TESTS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda value, wanted: value == wanted,
    "StringEqualsIgnoreCase": lambda value, wanted: value.lower() == wanted.lower(),
    "StringLike": lambda value, wanted: _like(value, [wanted]),
    "ArnEquals": lambda value, wanted: _like(value, [wanted]),
    "ArnLike": lambda value, wanted: _like(value, [wanted]),
    "Bool": lambda value, wanted: value.lower() == wanted.lower(),
}


def _filled(pattern: str, context: Context) -> str:
    def value(found: re.Match[str]) -> str:
        given = context.get(found.group(1).lower(), "")
        return given if isinstance(given, str) else ""

    return VARIABLE.sub(value, pattern)


def _like(value: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(value, each.replace("[", "[[]")) for each in patterns)


def _list(given: Any) -> list[str]:
    return given if isinstance(given, list) else [given]
