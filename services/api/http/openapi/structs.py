"""The schemas that msgspec makes of declared fields, and what these cannot say.

Added are a null that counts as left out, and the types as which a value may be written.
"""

from typing import Any

import msgspec
from msgspec import Struct, inspect

from services.api.http.openapi.shapes import Schema, described, nullable
from services.api.submission.faults import declared, metadata


def of_struct(struct: type[Struct]) -> Schema:
    """Return the schema of *struct*; it refers to those of inner structs by their names."""
    _, components = msgspec.json.schema_components(
        [struct], ref_template="#/components/schemas/{name}"
    )
    schema = components[struct.__name__]
    fields = declared(struct)
    closed = struct.__struct_config__.forbid_unknown_fields
    return {
        "type": "object",
        "properties": {
            name: _of_field(each, fields[name]) for name, each in schema["properties"].items()
        },
        **({"required": schema["required"]} if schema["required"] else {}),
        **({"additionalProperties": False} if closed else {}),
        "description": schema["description"],
    }


def _of_field(schema: Schema, field: inspect.Field) -> Schema:
    """Return the schema of a field; null counts as left out, so an optional field may be null."""
    schema = _portable({key: each for key, each in schema.items() if key != "default"})
    if "anyOf" in schema:  # of something and null
        schema = schema.pop("anyOf")[0] | schema
    extra = metadata(field.type)
    schema = _merged(schema, extra.get("written", {}))
    values = schema.get("enum", ())
    if values and all(isinstance(each, str) for each in values):
        schema |= {"type": "string", "enum": list(extra.get("values") or values)}
    about = schema.pop("description")
    return described(about, schema if field.required else nullable(schema))


def _portable(schema: Any) -> Any:
    """Translate the patterns in *schema* to the syntax that JSON Schema has (ECMA 262)."""
    if isinstance(schema, list):
        return [_portable(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    portable = {name: _portable(each) for name, each in schema.items()}
    if isinstance(pattern := portable.get("pattern"), str):
        portable["pattern"] = pattern.replace(r"\A", "^").replace(r"\Z", "$")
    return portable


def _merged(schema: Schema, more: Schema) -> Schema:
    """Merge *more* into *schema*, at every depth."""
    inner = {
        name: _merged(schema[name], each)
        for name, each in more.items()
        if isinstance(each, dict) and name in schema
    }
    return schema | more | inner
