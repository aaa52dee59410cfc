"""The functions of `--format`'s templates: Docker's own, as far as they have a use here. Pure."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from docker_job.cli.terminal import escaped_json


def as_json(value: Any) -> str:
    """Render *value* as JSON on one line."""
    return escaped_json(json.dumps(value, ensure_ascii=False, default=str))


def as_text(value: Any) -> str:
    """Render *value* as a template shows it: nothing for null, words as they are."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping) or (isinstance(value, Iterable) and not isinstance(value, str)):
        return as_json(value)
    return str(value)


def _truncate(value: Any, length: int) -> str:
    return as_text(value)[:length]


def _pad(value: Any, before: int, after: int) -> str:
    return f"{' ' * before}{as_text(value)}{' ' * after}"


def _join(values: Iterable[Any], separator: str) -> str:
    if isinstance(values, Mapping):
        values = [f"{key}={value}" for key, value in values.items()]
    return separator.join(as_text(each) for each in values or ())


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else value[key]
    return value


def _any_of(*values: Any) -> Any:
    return next((each for each in values if each), values[-1])


def _all_of(*values: Any) -> Any:
    return next((each for each in values if not each), values[-1])


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": as_json,
    "upper": lambda value: as_text(value).upper(),
    "lower": lambda value: as_text(value).lower(),
    "title": lambda value: as_text(value).title(),
    "split": lambda value, separator: as_text(value).split(separator),
    "join": _join,
    "truncate": _truncate,
    "pad": _pad,
    "len": lambda value: len(value or ""),
    "index": _index,
    "println": lambda *values: " ".join(as_text(each) for each in values) + "\n",
    "print": lambda *values: "".join(as_text(each) for each in values),
    "eq": lambda value, *others: value in others,
    "ne": lambda value, other: value != other,
    "lt": lambda value, other: value < other,
    "le": lambda value, other: value <= other,
    "gt": lambda value, other: value > other,
    "ge": lambda value, other: value >= other,
    "not": lambda value: not value,
    "or": _any_of,
    "and": _all_of,
}
