"""Messages for values that a declaration refuses, made from the declaration itself.

msgspec checks a value in one pass and reports the first error in its own words, without the keys of
objects. So a value that is refused is walked once more, field by field in the order of the
declaration: the message names the field by its path and says what would be right. It is made from
the bounds of `Meta`, or comes with the declaration in `Meta.extra`: `wrong`, for another type
`wrong_type`, for a text that is too long or too short `wrong_length`. In it {path} is the value's
path and {value} the value, shortened. No message of a secret has {value}.
"""

import json
import re
from collections.abc import Mapping
from functools import cache
from math import inf
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, inspect

_S = TypeVar("_S", bound=Struct)
_encode = msgspec.json.Encoder().encode

UNBOUNDED_BYTES = 16_384
"""No limit of bytes is below this."""


class BadRequest(Exception):
    """The request cannot be taken. The message names the field and says what is right."""


def check(value: Any, struct: type[_S], path: str = "", most: Mapping[str, int] = {}) -> _S:
    """Convert *value* to *struct*. Raises `BadRequest`, which names the field below *path*.

    *most* are limits of the deployment over the declared ones, by the names of fields.
    """
    try:
        read = msgspec.convert(value, struct)
    except msgspec.ValidationError as error:
        raise BadRequest(fault(value, struct, path, most) or str(error)) from None
    for name, limit in most.items():
        given = getattr(read, name)
        if given is not None and given > limit:
            raise BadRequest(fault(value, struct, path, {name: limit}) or name)
    return read


def has_plain_texts(value: Any) -> bool:
    """Whether *value* is below all limits of bytes, and no text has a character that JSON escapes.

    Most bodies are so, and then `check_texts` would find nothing.
    """
    encoded = _encode(value)
    return len(encoded) <= UNBOUNDED_BYTES and b"\\" not in encoded


def check_texts(value: Any, read: Struct) -> None:
    """Check what patterns would be too slow for: msgspec calls `re` for each text that has one.

    These are the characters that the texts of *read* must lack, and their bytes.
    """
    for name, lacks, max_bytes in _text_rules(type(read)):
        text = _joined(getattr(read, name) or "")
        if any(character in text for character in lacks):
            raise BadRequest(fault(value, type(read), "", {}) or name)
        if len(text.encode()) > max_bytes:
            raise BadRequest(f"{name} is too long, at most {max_bytes} bytes are taken")


def _joined(value: str | list[str] | dict[str, str]) -> str:
    if isinstance(value, dict):
        return "".join(value) + "".join(value.values())
    return value if isinstance(value, str) else "".join(value)


def fault(value: Any, struct: type[Struct], path: str, most: Mapping[str, int]) -> str | None:
    """Find the first field of *value* that *struct* refuses; return the message, None if none."""
    if not isinstance(value, dict):
        return f"{path} must be an object, like {json.dumps(getattr(struct, 'EXAMPLE', {}))}"
    fields = declared(struct)
    for name in value:
        if name not in fields:
            return unknown_field(name, struct, path)
    for name, field in fields.items():
        if name in value:
            found = _fault(value[name], field.type, _join(path, name), most.get(name))
            if found is not None:
                return found
        elif field.required:
            return f"{_join(path, name)} field cannot be empty"
    return None


def unknown_field(name: str, struct: type[Struct], path: str = "") -> str:
    """Return the message that *struct*, which stands at *path*, has no field *name*."""
    known = ", ".join(declared(struct))
    if path:
        return f"unknown field {_join(path, name)}: it takes {known}"
    return f"unknown field {short(name)}: the fields are {known}"


@cache
def declared(struct: type[Struct]) -> dict[str, inspect.Field]:
    """The fields of *struct* by their names."""
    return {field.name: field for field in inspect.type_info(struct).fields}  # type: ignore[attr-defined]  # of a Struct


@cache
def _text_rules(struct: type[Struct]) -> list[tuple[str, str, float]]:
    """Of fields that are made of texts: the characters they must lack, and the most bytes."""
    rules = []
    for name, field in declared(struct).items():
        bare, extra, _ = _bare(field.type)
        if isinstance(bare, inspect.ListType):
            extra |= {"lacks": metadata(bare.item_type).get("lacks", "")}
        elif isinstance(bare, inspect.DictType):
            extra |= {"lacks": metadata(bare.value_type).get("lacks", "")}
        if extra.get("lacks") or "max_bytes" in extra:
            rules.append((name, extra.get("lacks", ""), extra.get("max_bytes", inf)))
    return rules


def _fault(value: Any, info: inspect.Type, path: str, most: int | None = None) -> str | None:
    """Find the message for *value*; *most* is over the declared greatest number."""
    info, extra, example = _bare(info)
    match info:
        case inspect.IntType():
            return _of_number(value, info, path, most)
        case inspect.LiteralType():
            right = isinstance(value, str) and value in info.values
            values = extra.get("values", info.values)  # msgspec sorts its own
            return None if right else f"{path} must be one of {', '.join(values)}"
        case inspect.StrType():
            return _of_text(value, info, path, extra, example)
        case inspect.ListType():
            return _of_list(value, info, path, example)
        case inspect.DictType():
            return _of_object(value, info, path, example)
    return None


def metadata(info: inspect.Type) -> dict[str, Any]:
    """The `extra` of a field's declaration."""
    return _bare(info)[1]


def _bare(info: inspect.Type) -> tuple[inspect.Type, dict[str, Any], Any]:
    """*info* without its metadata and null, then the messages and the first example of it."""
    extra: dict[str, Any] = {}
    example = None
    while isinstance(info, inspect.Metadata | inspect.UnionType):
        if isinstance(info, inspect.UnionType):  # of something and null
            info = next(each for each in info.types if not isinstance(each, inspect.NoneType))
            continue
        extra |= info.extra or {}
        example = next(iter((info.extra_json_schema or {}).get("examples", ())), example)
        info = info.type
    return info, extra, example


def _of_number(value: Any, info: inspect.IntType, path: str, most: int | None) -> str | None:
    least, most = info.ge, info.le if most is None else most
    whole = isinstance(value, int) and not isinstance(value, bool)
    if whole and (least is None or least <= value) and (most is None or value <= most):
        return None
    return f"{path} must be a whole number from {least} to {most}"


def _of_text(
    value: Any, info: inspect.StrType, path: str, extra: dict[str, Any], example: Any
) -> str | None:
    least, most = info.min_length or 0, info.max_length
    between = f"{path} must be a string of {least} to {most} characters" if least else None
    message: str | None = None
    if not isinstance(value, str):
        right = f"{path} must be a string, like {example!r}"
        message = extra.get("wrong_type") or between or right
    elif len(value) < least or (most is not None and len(value) > most):
        message = extra.get("wrong_length") or between or extra.get("wrong")
    elif any(each in value for each in extra.get("lacks", "")):
        message = extra.get("wrong")
    elif info.pattern is not None and not re.search(info.pattern, value):
        message = between if between and not value.strip() else extra.get("wrong")
    return message and message.replace("{path}", path).replace("{value}", short(value))


def _of_list(value: Any, info: inspect.ListType, path: str, example: Any) -> str | None:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        return f"{path} must be an array of strings, like {json.dumps(example)}"
    if info.max_length is not None and len(value) > info.max_length:
        return f"{path} has {len(value)} entries, at most {info.max_length} are taken"
    faults = (_fault(each, info.item_type, path) for each in value)
    return next((each for each in faults if each is not None), None)


def _of_object(value: Any, info: inspect.DictType, path: str, example: Any) -> str | None:
    right = f"{path} must be an object of strings, like {json.dumps(example)}"
    if not isinstance(value, dict):
        return right
    if info.max_length is not None and len(value) > info.max_length:
        return f"{path} has {len(value)} entries, at most {info.max_length} are taken"
    any_type = "wrong_type" not in metadata(info.value_type)
    for name, each in value.items():
        if any_type and not isinstance(each, str):
            return right
        found = _fault(name, info.key_type, path)
        found = found or _fault(each, info.value_type, _join(path, name))
        if found is not None:
            return found
    return None


def _join(path: str, name: str) -> str:
    name = name if len(name) <= 80 else f"{name[:77]}…"
    return f"{path}.{name}" if path else name


def short(value: object) -> str:
    """*value* as a message quotes it."""
    text = str(value)
    return repr(text if len(text) <= 80 else text[:77] + "…")
