"""Reading JSON into the documents."""

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from docker_job.documents import Document

D = TypeVar("D", bound=Document)

Convert = Callable[[Any], Any]


def read(kind: type[D], data: Mapping[str, Any], **more: Any) -> D:
    """Make a document of *data*; fields that *kind* does not have are in `raw` alone.

    A null where the field has a default means that default.
    """
    found: dict[str, Any] = {}
    for name, (convert, nullable) in _fields_of(kind).items():
        value = data.get(name)
        if value is not None:
            found[name] = convert(value)
        elif nullable and name in data:
            found[name] = None
    return kind(**found, raw=dict(data), **more)


def time_of(text: str) -> datetime | None:
    """Read a time of the API; None if it is none."""
    try:
        at = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _list(convert: Convert, value: Any) -> list[Any]:
    """Read a list; what only counts (`attempts` of a job in a list) lists nothing."""
    return [convert(each) for each in value] if isinstance(value, list) else []


_known: dict[type[Document], dict[str, tuple[Convert, bool]]] = {}


def _fields_of(kind: type[Document]) -> dict[str, tuple[Convert, bool]]:
    if kind not in _known:
        _known[kind] = _find_fields(kind)
    return _known[kind]


def _find_fields(kind: type[Document]) -> dict[str, tuple[Convert, bool]]:
    hints = typing.get_type_hints(kind)
    return {
        each.name: _conversion(hints[each.name])
        for each in dataclasses.fields(kind)
        if each.name != "raw"
    }


def _conversion(hint: Any) -> tuple[Convert, bool]:
    """Return how a value of *hint* is read, and whether it may be None."""
    parts = typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        [kind] = [each for each in parts if each is not types.NoneType]
        return _conversion(kind)[0], True
    if hint is datetime:
        return time_of, False
    if isinstance(hint, type) and issubclass(hint, Document):
        return lambda value: read(hint, value), False
    if typing.get_origin(hint) is list:
        convert = _conversion(parts[0])[0]
        return lambda value: _list(convert, value), False
    if typing.get_origin(hint) is dict and parts[1] == (datetime | None):
        return lambda value: {name: time_of(each) for name, each in value.items()}, False
    return lambda value: value, False
