"""The queue's own policy: whether it lets EventBridge send for a rule. Pure.

Some values of the call are known only to AWS, so a condition holds, does not hold, or is unknown
(None). An explicit Deny outweighs every Allow.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html
"""

import fnmatch
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

Verdict = Literal["allowed", "denied", "unclear"]
Statement = Mapping[str, Any]

EVENTBRIDGE = "events.amazonaws.com"
SEND = "sqs:sendmessage"

ABSENT = ("aws:principalarn", "aws:principalaccount", "aws:principalorgid", "aws:username")
"""Keys that a call by a service itself does not have.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html
"""


def _like(value: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(value, pattern.replace("[", "[[]"))


TESTS: Mapping[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda value, wanted: value == wanted,
    "StringEqualsIgnoreCase": lambda value, wanted: value.lower() == wanted.lower(),
    "StringLike": _like,
    "ArnEquals": _like,
    "ArnLike": _like,
    "Bool": lambda value, wanted: value.lower() == wanted.lower(),
}


def judge(policy: str, queue_arn: str, rule_arn: str | None) -> Verdict:
    """Judge whether the rule may send to the queue; with None, a rule that is not known."""
    given = json.loads(policy or "{}").get("Statement") or []
    statements: list[Statement] = [given] if isinstance(given, dict) else given
    context: dict[str, str | None] = {
        "aws:sourcearn": rule_arn,
        "aws:sourceaccount": (rule_arn or queue_arn).split(":")[4],
        "aws:securetransport": "true",
        "aws:principalisawsservice": "true",
        "aws:principalservicename": EVENTBRIDGE,
    }
    found = [
        (each["Effect"], _holds(each.get("Condition") or {}, context))
        for each in statements
        if _concerns(each, queue_arn)
    ]
    denies = [held for effect, held in found if effect == "Deny"]
    allows = [held for effect, held in found if effect == "Allow"]
    if True in denies or (True not in allows and None not in allows):
        return "denied"
    return "allowed" if True in allows and None not in denies else "unclear"


def _concerns(statement: Statement, queue_arn: str) -> bool:
    excluded = "NotPrincipal" in statement
    meant = _names_eventbridge(statement["NotPrincipal" if excluded else "Principal"])
    return (
        meant != excluded
        and _is_in("Action", SEND, statement, str.lower)
        and _is_in("Resource", queue_arn, statement, str)
    )


def _is_in(field: str, value: str, statement: Statement, form: Callable[[str], str] = str) -> bool:
    """Return whether *value* is one of the field's, or none of those in its `Not` form."""
    if f"Not{field}" in statement:
        return not any(_like(value, form(each)) for each in _many(statement[f"Not{field}"]))
    return any(_like(value, form(each)) for each in _many(statement.get(field, "*")))


def _names_eventbridge(principal: Any) -> bool:
    if not isinstance(principal, dict):
        return bool(principal == "*")
    everyone = "*" in _many(principal.get("AWS", []))
    return everyone or EVENTBRIDGE in _many(principal.get("Service", []))


def _holds(conditions: Mapping[str, Any], context: Mapping[str, str | None]) -> bool | None:
    results = [
        _test(operator, key.lower(), [str(each) for each in _many(wanted)], context)
        for operator, keys in conditions.items()
        for key, wanted in keys.items()
    ]
    if False in results:
        return False
    return None if None in results else True


def _test(
    operator: str, key: str, wanted: list[str], context: Mapping[str, str | None]
) -> bool | None:
    plain = operator.rpartition(":")[2]
    name = plain.removesuffix("IfExists")
    if key in ABSENT:
        if name == "Null":
            return wanted[0].lower() == "true"
        return plain.endswith("IfExists") or "Not" in name
    if name == "Null" and key in context:
        return wanted[0].lower() == "false"
    value, test = context.get(key), TESTS.get(name.replace("Not", ""))
    if value is None or test is None:
        return None
    return any(test(value, each) for each in wanted) != ("Not" in name)


def _many(given: Any) -> Iterable[Any]:
    return [given] if isinstance(given, (str, bool)) else given
