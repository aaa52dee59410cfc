"""The body of `POST /schedule`: the schema that msgspec makes of the declared fields.

What a declaration cannot say is added: a null that counts as left out, the deployment's limits and
defaults, and the types as which a value may be written.
"""

from typing import Any

import msgspec
from msgspec import Struct, inspect

from services.api.http.openapi.shapes import Schema, a_list, described, nullable, ref
from services.api.http.routes.jobs import MAX_JOBS
from services.api.submission.capacity import ResourcesRequest
from services.api.submission.faults import declared, metadata
from services.api.submission.request import Bounds, JobRequest


def schemas(bounds: Bounds) -> dict[str, Schema]:
    """The schemas by their names."""
    requests = a_list(ref("JobRequest"), minItems=1, maxItems=MAX_JOBS)
    return {
        "JobRequest": _job(bounds),
        "JobRequests": described("Jobs that are scheduled all or none.", requests),
        "Resources": _resources(),
    }


def _job(bounds: Bounds) -> Schema:
    schema = _of_struct(JobRequest)
    properties = schema["properties"]
    about = properties["resources"]["description"]
    properties["resources"] = described(about, nullable(ref("Resources")))
    for name, most in bounds.most.items():
        properties[name]["maximum"] = most
    for name, default in bounds.defaults.items():
        properties[name]["default"] = default
    return schema


def _resources() -> Schema:
    other = {"architecture": {"const": "arm64"}, "gpus": {"type": "integer"}}
    return _of_struct(ResourcesRequest) | {
        "not": {"properties": other, "required": list(other)},
        "examples": [ResourcesRequest.EXAMPLE],
    }


def _of_struct(struct: type[Struct]) -> Schema:
    _, components = msgspec.json.schema_components([struct])
    schema = components[struct.__name__]
    fields = declared(struct)
    return {
        "type": "object",
        "properties": {
            name: _of_field(each, fields[name]) for name, each in schema["properties"].items()
        },
        **({"required": schema["required"]} if schema["required"] else {}),
        "additionalProperties": False,
        "description": schema["description"],
    }


def _of_field(schema: Schema, field: inspect.Field) -> Schema:
    """The schema of a field; null counts as left out, so an optional field may be null."""
    schema = _portable({key: each for key, each in schema.items() if key != "default"})
    if "anyOf" in schema:  # of something and null
        schema = schema.pop("anyOf")[0] | schema
    extra = metadata(field.type)
    schema = _merged(schema, extra.get("written", {}))
    if "values" in extra:
        schema |= {"type": "string", "enum": list(extra["values"])}
    about = schema.pop("description")
    return described(about, schema if field.required else nullable(schema))


def _portable(schema: Any) -> Any:
    """*schema* with its patterns in the syntax that JSON Schema knows (ECMA 262)."""
    if isinstance(schema, list):
        return [_portable(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    portable = {name: _portable(each) for name, each in schema.items()}
    if isinstance(pattern := portable.get("pattern"), str):
        portable["pattern"] = pattern.replace(r"\A", "^").replace(r"\Z", "$")
    return portable


def _merged(schema: Schema, more: Schema) -> Schema:
    """*schema* with *more* over it, at every depth."""
    inner = {
        name: _merged(schema[name], each)
        for name, each in more.items()
        if isinstance(each, dict) and name in schema
    }
    return schema | more | inner
