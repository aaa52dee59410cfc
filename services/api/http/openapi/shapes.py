"""What JSON Schemas are put together from."""

import re
from datetime import datetime
from functools import cache
from typing import Any, TypeAlias, get_args, get_type_hints

import msgspec

Schema: TypeAlias = dict[str, Any]

NO_NUL = r"^[^\u0000]*$"
LARGEST_ID = 2**63 - 1


def ref(name: str) -> Schema:
    """The schema *name* of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def nullable(schema: Schema) -> Schema:
    """*schema*, or null."""
    if isinstance(schema.get("type"), str) and not {"enum", "const"} & schema.keys():
        return {**schema, "type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def an_object(properties: dict[str, Schema], *optional: str, about: str = "") -> Schema:
    """An object that has all of *properties* but *optional*, and perhaps others: it may grow."""
    schema: Schema = {"type": "object", "description": about} if about else {"type": "object"}
    required = [name for name in properties if name not in optional]
    return schema | {"properties": properties} | ({"required": required} if required else {})


def a_list(items: Schema, **more: Any) -> Schema:
    """An array of *items*."""
    return {"type": "array", "items": items, **more}


def one_of(values: tuple[str, ...], **more: Any) -> Schema:
    """One of a few words."""
    return {"type": "string", "enum": list(values), **more}


def whole(least: int, most: int, **more: Any) -> Schema:
    """A whole number, written without a point."""
    return {"type": "integer", "minimum": least, "maximum": most, **more}


def matching(pattern: re.Pattern[str], **more: Any) -> Schema:
    """A text that *pattern* matches from end to end."""
    return {"type": "string", "pattern": f"^(?:{pattern.pattern})$", **more}


def described(about: str, schema: Schema) -> Schema:
    """*schema* with what it means; a reference keeps it beside itself, as 3.1 allows."""
    return {**schema, "description": about}


@cache
def _hints(struct: type[msgspec.Struct]) -> dict[str, Any]:
    # Without the limits of requests: an answer may be of a job that had others.
    return get_type_hints(struct)


def typed(struct: type[msgspec.Struct], field: str) -> Schema:
    """The schema of what *field* of *struct* holds, by its annotation."""
    hint = _hints(struct)[field]
    schema = msgspec.json.schema(hint)
    either = schema.get("anyOf", ())
    if len(either) == 2 and either[1] == {"type": "null"}:
        schema = nullable(either[0])
    # msgspec calls a datetime so only where its type insists on an offset: all of ours have one.
    return schema | ({"format": "date-time"} if datetime in (hint, *get_args(hint)) else {})
