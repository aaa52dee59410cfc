"""The parts of JSON Schemas."""

from datetime import datetime
from functools import cache
from typing import Any, TypeAlias, get_args, get_type_hints

import msgspec

Schema: TypeAlias = dict[str, Any]

NO_NUL = r"^[^\u0000]*$"
LARGEST_ID = 2**63 - 1


def ref(name: str) -> Schema:
    """Refer to the schema *name* of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def nullable(schema: Schema) -> Schema:
    """Allow null besides *schema*."""
    if isinstance(schema.get("type"), str) and not {"enum", "const"} & schema.keys():
        return {**schema, "type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def an_object(properties: dict[str, Schema], *optional: str, about: str = "") -> Schema:
    """Make an object with *properties*, all required but *optional*; others are allowed."""
    schema: Schema = {"type": "object", "description": about} if about else {"type": "object"}
    required = [name for name in properties if name not in optional]
    return schema | {"properties": properties} | ({"required": required} if required else {})


def a_list(items: Schema, **more: Any) -> Schema:
    """Make an array of *items*."""
    return {"type": "array", "items": items, **more}


def one_of(values: tuple[str, ...], **more: Any) -> Schema:
    """Make a choice of texts."""
    return {"type": "string", "enum": list(values), **more}


def whole(least: int, most: int, **more: Any) -> Schema:
    """Make a whole number within two bounds."""
    return {"type": "integer", "minimum": least, "maximum": most, **more}


def described(about: str, schema: Schema) -> Schema:
    """Add a description to *schema*, which may be a reference (allowed since 3.1)."""
    return {**schema, "description": about}


@cache
def _hints(struct: type[msgspec.Struct]) -> dict[str, Any]:
    # Without the limits of requests: a job may have been accepted under other limits.
    return get_type_hints(struct)


def typed(struct: type[msgspec.Struct], field: str) -> Schema:
    """Return the schema of *field* of *struct*, by its annotation."""
    hint = _hints(struct)[field]
    schema = msgspec.json.schema(hint)
    either = schema.get("anyOf", ())
    if len(either) == 2 and either[1] == {"type": "null"}:
        schema = nullable(either[0])
    # msgspec adds the format only if the type requires an offset; all of our times have one.
    return schema | ({"format": "date-time"} if datetime in (hint, *get_args(hint)) else {})
