"""Messages for values that a declaration refuses, made from the declaration itself.

msgspec checks a value in one pass; its message for the first error lacks the keys of objects. So a
value that is refused is walked once more, field by field in the order of the declaration: the
message names the field by its path and says what would be right. It is made from
the bounds of `Meta`, or comes with the declaration in `Meta.extra`: `wrong`, for another type
`wrong_type`, for a text that is too long or too short `wrong_length`. In it {path} is the value's
path and {value} the value, shortened. No message of a secret has {value}.
"""

import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, inspect
from msgspec.structs import replace

from services.api.submission.json_body import BadRequest, Number

_S = TypeVar("_S", bound=Struct)
_encode = msgspec.json.Encoder().encode

UNBOUNDED_BYTES = 16_384
"""No limit of bytes is reached by JSON that is shorter."""


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
    """Check that *value* is below all limits of bytes and no text has characters to escape in JSON.

    Most bodies are so, and then `check_texts` would find nothing.
    """
    encoded = _encode(value)
    return len(encoded) <= UNBOUNDED_BYTES and b"\\" not in encoded


def check_texts(value: Any, read: Struct) -> None:
    """Check the characters that the texts of *read* must lack.

    Patterns would be too slow for that: msgspec calls `re` for each text that has one.
    """
    for name, lacks in _text_rules(type(read)):
        text = _joined(getattr(read, name) or "")
        if any(character in text for character in lacks):
            raise BadRequest(fault(value, type(read), "", {}) or name)


def _joined(value: str | list[str] | dict[str, str]) -> str:
    if isinstance(value, dict):
        return "".join(value) + "".join(value.values())
    return value if isinstance(value, str) else "".join(value)


def fault(value: Any, struct: type[Struct], path: str, most: Mapping[str, int]) -> str | None:
    """Find the first field of *value* that *struct* refuses; return the message, None if none."""
    if not isinstance(value, dict):
        example = getattr(struct, "EXAMPLE", None)
        right = f"an object, like {json.dumps(example)}" if example else "a JSON object"
        return f"{path or 'the body'} must be {right}"
    fields = declared(struct)
    if struct.__struct_config__.forbid_unknown_fields:
        for name in value:
            if name not in fields:
                return unknown_field(name, struct, path)
    for name, field in fields.items():
        if name in value or field.required:
            found = _fault(value.get(name), field.type, join(path, name), most.get(name))
            if found is not None:
                return found
    return None


def unknown_field(name: str, struct: type[Struct], path: str = "") -> str:
    """Return the message that *struct*, which stands at *path*, has no field *name*."""
    known = ", ".join(declared(struct))
    if path:
        return f"unknown field {join(path, name)}: it takes {known}"
    return f"unknown field {short(name)}: the fields are {known}"


@cache
def declared(struct: type[Struct]) -> dict[str, inspect.Field]:
    """Return the fields of *struct* by their names."""
    return {field.name: field for field in inspect.type_info(struct).fields}  # type: ignore[attr-defined]  # of a Struct


@cache
def _text_rules(struct: type[Struct]) -> list[tuple[str, str]]:
    """Return the fields made of texts, and the characters that each must lack."""
    rules = []
    for name, field in declared(struct).items():
        bare, extra = _bare(field.type).info, metadata(field.type)
        if isinstance(bare, inspect.ListType):
            extra |= {"lacks": metadata(bare.item_type).get("lacks", "")}
        elif isinstance(bare, inspect.DictType):
            extra |= {"lacks": metadata(bare.value_type).get("lacks", "")}
        if extra.get("lacks"):
            rules.append((name, extra["lacks"]))
    return rules


class _Bare(Struct, frozen=True):
    """A type without its metadata and null, and beside it what these say."""

    info: Any
    nullable: bool
    extra: dict[str, Any]
    example: Any

    def like(self) -> str:
        """Return the first example, for the end of a message."""
        return "" if self.example is None else f", like {json.dumps(self.example)}"

    def message(self, name: str, path: str, value: Any) -> str | None:
        """Return the declared message *name*, filled in; None if there is none."""
        message: str | None = self.extra.get(name)
        return message and message.replace("{path}", path).replace("{value}", short(value))


def _bare(info: inspect.Type) -> _Bare:
    extra: dict[str, Any] = {}
    example, nullable = None, False
    while isinstance(info, inspect.Metadata | inspect.UnionType):
        if isinstance(info, inspect.UnionType):  # of something and null
            nullable = True
            info = next(each for each in info.types if not isinstance(each, inspect.NoneType))
            continue
        extra |= info.extra or {}
        example = next(iter((info.extra_json_schema or {}).get("examples", ())), example)
        info = info.type
    return _Bare(info, nullable, extra, example)


def metadata(info: inspect.Type) -> dict[str, Any]:
    """Return the `extra` of a field's declaration."""
    return _bare(info).extra


def _fault(value: Any, info: inspect.Type, path: str, most: int | None = None) -> str | None:
    """Find the message for *value*; *most* is over the declared greatest number."""
    bare = _bare(info)
    if value is None and bare.nullable:
        return None
    if most is not None:
        bare = replace(bare, info=replace(bare.info, le=most))
    find = _FINDERS.get(type(bare.info))
    return find(value, bare, path) if find else None


def _of_flag(value: Any, _: _Bare, path: str) -> str | None:
    return None if isinstance(value, bool) else f"{path} must be true or false"


def _of_number(value: Any, bare: _Bare, path: str) -> str | None:
    least, most = bare.info.ge, bare.info.le
    whole = isinstance(value, int) and not isinstance(value, bool)
    if whole and (least is None or least <= value) and (most is None or value <= most):
        return None
    right = f"{path} must be a whole number from {least} to {most}"
    if isinstance(value, Number) and value.is_whole:
        right += ", written without a point or an exponent"
    return bare.message("wrong", path, value) or right


def _of_choice(value: Any, bare: _Bare, path: str) -> str | None:
    of_type = type(value) in map(type, bare.info.values)
    if of_type and value in bare.info.values:
        return None
    values = bare.extra.get("values", bare.info.values)  # msgspec sorts its own
    message = None if of_type else bare.message("wrong_type", path, value)
    message = message or bare.message("wrong", path, value)
    return message or f"{path} must be one of {', '.join(values)}"


def _of_text(value: Any, bare: _Bare, path: str) -> str | None:
    least, most = bare.info.min_length or 0, bare.info.max_length
    between = f"{path} must be a string of {least} to {most} characters" if least else None
    if not isinstance(value, str):
        like = "" if bare.example is None else f", like {bare.example!r}"
        right = f"{path} must be a string{like}"
        return bare.message("wrong_type", path, value) or between or right
    wrong = bare.message("wrong", path, value)
    if len(value) < least or (most is not None and len(value) > most):
        return bare.message("wrong_length", path, value) or between or wrong
    if any(each in value for each in bare.extra.get("lacks", "")):
        return wrong
    if bare.info.pattern is not None and not re.search(bare.info.pattern, value):
        blank = between and not value.strip()
        return f"{between}, not white space alone" if blank else wrong
    return None


def _of_list(value: Any, bare: _Bare, path: str) -> str | None:
    texts = isinstance(_bare(bare.info.item_type).info, inspect.StrType)
    right = bare.message("wrong_type", path, value)
    right = right or f"{path} must be an array of strings{bare.like()}"
    if not isinstance(value, list) or (texts and not all(isinstance(each, str) for each in value)):
        return right
    if bare.info.max_length is not None and len(value) > bare.info.max_length:
        return f"{path} has {len(value)} entries, at most {bare.info.max_length} are taken"
    inner = path if texts else f"{path}[]"
    faults = (_fault(each, bare.info.item_type, inner) for each in value)
    return next((each for each in faults if each is not None), None)


def _of_object(value: Any, bare: _Bare, path: str) -> str | None:
    info = bare.info
    right = f"{path} must be an object of strings{bare.like()}"
    if not isinstance(value, dict):
        return right
    if info.max_length is not None and len(value) > info.max_length:
        return f"{path} has {len(value)} entries, at most {info.max_length} are taken"
    any_type = "wrong_type" not in metadata(info.value_type)
    for name, each in value.items():
        if any_type and not isinstance(each, str):
            return right
        found = _fault(name, info.key_type, path)
        found = found or _fault(each, info.value_type, join(path, name))
        if found is not None:
            return found
    return None


def _of_struct(value: Any, bare: _Bare, path: str) -> str | None:
    read = isinstance(value, bare.info.cls)  # and checked before
    return None if read else fault(value, bare.info.cls, path, {})


_FINDERS: dict[type, Callable[[Any, _Bare, str], str | None]] = {
    inspect.BoolType: _of_flag,
    inspect.IntType: _of_number,
    inspect.LiteralType: _of_choice,
    inspect.StrType: _of_text,
    inspect.ListType: _of_list,
    inspect.DictType: _of_object,
    inspect.StructType: _of_struct,
}


def join(path: str, name: str) -> str:
    """Return the path of *name* below *path*, for a message."""
    name = name if len(name) <= 80 else f"{name[:77]}…"
    return f"{path}.{name}" if path else name


def short(value: object) -> str:
    """Quote *value* for a message, shortened."""
    try:
        text = str(value)
    except RecursionError:
        text = "…"
    return repr(text if len(text) <= 80 else text[:77] + "…")
