"""The part of IAM that decides whether a policy of template.yaml allows a call.

Evaluated: Effect, Action and Resource with `*` and `?`, and the condition operators of `OPERATORS`;
a condition whose key the call does not carry fails, as in IAM. Anything else in a statement is an
error of the test, so nothing is ignored. It cannot check whether AWS sets those keys on those
calls: the recording says so (deploy/calls.json).
"""

import contextlib
import fnmatch
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cfnlint.decode import cfn_yaml  # type: ignore[import-untyped]

TEMPLATE = Path(__file__).resolve().parents[3] / "deploy" / "template.yaml"

PSEUDO = {
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-1",
    "AWS::AccountId": "123456789012",
    "AWS::StackName": "docker-job",
    "AWS::URLSuffix": "amazonaws.com",
}
CONDITIONS = {"OwnVolume": True, "WithoutCertificate": True, "WithCertificate": False}


def matches(given: str, pattern: str) -> bool:
    """Match IAM's wildcards; brackets are literal."""
    return fnmatch.fnmatchcase(given, pattern.replace("[", "[[]"))


def _equal(given: str, wanted: str) -> bool:
    return given == wanted


OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": _equal,
    "ArnEquals": _equal,
    "ArnLike": matches,
    "Bool": _equal,
    "NumericEquals": lambda given, wanted: float(given) == float(wanted),
}


@dataclass(frozen=True)
class Statement:
    """An Allow of one role."""

    role: str
    sid: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: Mapping[str, Mapping[str, tuple[str, ...]]]

    def allows(self, action: str, resource: str, context: Mapping[str, str]) -> bool:
        """Return whether this statement allows it."""
        return (
            any(matches(action.lower(), each.lower()) for each in self.actions)
            and any(matches(resource, each) for each in self.resources)
            and all(
                key in context and any(OPERATORS[operator](context[key], one) for one in wanted)
                for operator, keys in self.conditions.items()
                for key, wanted in keys.items()
            )
        )


def template() -> dict[str, Any]:
    """Return the template with its intrinsic functions in their long form."""
    loaded: dict[str, Any] = cfn_yaml.load(str(TEMPLATE))
    return loaded


def resolve(value: Any) -> Any:
    """Evaluate the intrinsic functions in *value*; values that only AWS has are named for it."""
    if isinstance(value, list):
        return [resolve(each) for each in value]
    if not isinstance(value, dict):
        return value
    name, argument = next(iter(value.items()), ("", None))
    if len(value) == 1 and name in FUNCTIONS:
        return FUNCTIONS[name](argument)
    assert not name.startswith("Fn::"), f"{name} is not known here"
    return {key: resolve(each) for key, each in value.items()}


def _get_att(argument: str | list[str]) -> str:
    return stand_in(argument if isinstance(argument, str) else ".".join(argument))


def _if(argument: list[Any]) -> Any:
    return resolve(argument[1 if CONDITIONS[argument[0]] else 2])


def _sub(argument: str | list[Any]) -> str:
    text, more = (argument, {}) if isinstance(argument, str) else argument
    known = {key: resolve(each) for key, each in more.items()}
    return re.sub(r"\$\{([^}]+)\}", lambda found: known.get(found[1], stand_in(found[1])), text)


def stand_in(name: str) -> str:
    """Return the stand-in of a parameter, a resource or its ARN, for policies and calls alike."""
    short = name.removesuffix(".Arn").removesuffix(".GroupId")
    return PSEUDO.get(name, PSEUDO.get(short, short))


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "Ref": stand_in,
    "Fn::GetAtt": _get_att,
    "Fn::If": _if,
    "Fn::Sub": _sub,
}


def documents(names: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return each role's policy documents; *names* replace the names of resources.

    A policy that only some stacks have is named `<role>/<policy>`.
    """
    for name, resource in template()["Resources"].items():
        if resource["Type"] == "AWS::IAM::Policy":
            properties = resource["Properties"]
            with _standing_in(names):
                document = resolve(properties["PolicyDocument"])
            for role in properties["Roles"]:
                yield (
                    stand_in(role["Ref"]) + (f"/{name}" if "Condition" in resource else ""),
                    document,
                )


@contextlib.contextmanager
def _standing_in(names: Mapping[str, str]) -> Iterator[None]:
    before = dict(PSEUDO)
    PSEUDO.update(names)
    try:
        yield
    finally:
        PSEUDO.clear()
        PSEUDO.update(before)


def statements() -> Iterator[Statement]:
    """Return every statement of every policy of a role, but those of AWS's own policies."""
    for resource in template()["Resources"].values():
        if resource["Type"] != "AWS::IAM::Policy":
            continue
        properties = resource["Properties"]
        for given in resolve(properties["PolicyDocument"]["Statement"]):
            for role in resolve(properties["Roles"]):
                yield read(role, given)


def read(role: str, given: dict[str, Any]) -> Statement:
    """Read a statement; an unknown part is an error."""
    assert given["Effect"] == "Allow"
    assert set(given) <= {"Sid", "Effect", "Action", "Resource", "Condition"}, given
    conditions = given.get("Condition", {})
    assert set(conditions) <= set(OPERATORS), conditions
    return Statement(
        role=role,
        sid=given["Sid"],
        actions=many(given["Action"]),
        resources=many(given["Resource"]),
        conditions={
            operator: {key: many(wanted) for key, wanted in keys.items()}
            for operator, keys in conditions.items()
        },
    )


def many(value: Any) -> tuple[str, ...]:
    """One or several, as several."""
    return tuple(str(each) for each in value) if isinstance(value, list) else (str(value),)
