"""The document as a page for users: docs/api.md."""

import json
from collections.abc import Iterator
from typing import Any

from services.api.http.openapi.operations import STATUS_OF
from services.api.http.openapi.shapes import Schema

HEAD = """\
# The HTTP API

Made by `make docs` from [openapi.json](openapi.json), which each API also serves at
`GET /openapi.json` for its own settings; the limits here are those of the defaults. The requests
of agents are in [agent-protocol.md](agent-protocol.md).
"""


def page(document: dict[str, Any]) -> str:
    """Make the page, in Markdown."""
    schemas = document["components"]["schemas"]
    lines = [HEAD, document["info"]["description"], "", "## Routes", *_routes(document)]
    lines += ["", "## Parameters", *_parameters(document)]
    lines += ["", "## A job to schedule", *_fields(schemas["JobRequest"], "field")]
    lines += ["", "`resources`:", "", *_fields(schemas["Resources"], "field")[1:]]
    lines += ["", "## A job in responses", *_fields(schemas["Job"], "`GET /list`")]
    detail, listed = schemas["JobDetail"]["properties"], schemas["Job"]["properties"]
    more = {name: each for name, each in detail.items() if each != listed.get(name)}
    lines += _fields({"properties": more}, "besides in `GET /status/{id}`")
    lines += ["", "Each of its `attempts`:", "", *_fields(schemas["Attempt"], "field")[1:]]
    lines += ["", "## A plan", *_fields(schemas["Plan"], "`POST /plan`")]
    lines += ["", "Each of its `choices`:", "", *_fields(schemas["PlannedChoice"], "field")[1:]]
    lines += ["", "## Errors", *_errors(document)]
    return "\n".join(lines) + "\n"


def _table(*heads: str) -> list[str]:
    return ["", _row(*heads), "|---" * len(heads) + "|"]


def _row(*cells: str) -> str:
    return "| " + " | ".join(each.replace("|", "\\|") for each in cells) + " |"


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"`{method.upper()} {path}`", operation


def _routes(document: dict[str, Any]) -> list[str]:
    lines = _table("call", "summary", "key's scope", "statuses")
    found = [set(operation["responses"]) for _, operation in _operations(document)]
    anywhere = sorted(set.intersection(*found) - {"200"})
    for call, operation in _operations(document):
        statuses = ", ".join(each for each in operation["responses"] if each not in anywhere)
        lines.append(_row(call, operation["summary"], _bearer(operation), statuses))
    return [
        *lines,
        "",
        f"Every call may also be answered with {', '.join(anywhere)}; see [Errors](#errors).",
    ]


def _bearer(operation: dict[str, Any]) -> str:
    either = [each for each in operation["security"] if each]
    if not either:
        return ""
    [(name, scopes)] = either[0].items()
    return scopes[0] if scopes else {"attemptToken": "(attempt token)"}.get(name, "(agents)")


def _parameters(document: dict[str, Any]) -> list[str]:
    lines = _table("call", "parameter", "type", "description")
    for call, operation in _operations(document):
        for each in operation.get("parameters", ()):
            if each["in"] != "path":
                name = f"`{each['name']}`" + (" (header)" if each["in"] == "header" else "")
                lines.append(_row(call, name, _takes(each["schema"]), each["description"]))
    return lines


def _fields(schema: Schema, head: str) -> list[str]:
    lines = _table(head, "type", "description")
    asked = "additionalProperties" in schema
    required = schema["required"] if asked and "required" in schema else ()
    for name, each in schema["properties"].items():
        shown = f"`{name}` (required)" if name in required else f"`{name}`"
        lines.append(
            _row(
                shown,
                _takes(_given(each) if asked else each),
                each["description"] + _default_and_examples(each),
            )
        )
    return lines


def _default_and_examples(schema: Schema) -> str:
    inner = next((each for each in schema.get("anyOf", ()) if "examples" in each), schema)
    examples = [f"`{json.dumps(each)}`" for each in inner.get("examples", ())]
    default = f" Default `{schema['default']}`." if "default" in schema else ""
    return default + (f" E.g. {', '.join(examples)}." if examples else "")


def _given(schema: Schema) -> Schema:
    """Return *schema* without null, which counts as left out in requests."""
    either = schema.get("anyOf", ())
    if either and either[-1] == {"type": "null"}:
        return {**either[0], "description": schema["description"]}
    if isinstance(schema.get("type"), list):
        return {**schema, "type": schema["type"][0]}
    return schema


def _takes(schema: Schema) -> str:
    """Summarise the type of *schema* and its limits."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2].lower()
    if "anyOf" in schema:
        return " or ".join(_takes(each) for each in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    types = schema.get("type", "any")
    kind = types if isinstance(types, str) else " or ".join(types)
    if kind.startswith("array"):
        kind = kind.replace("array", f"array of {_takes(schema['items'])}")
    elif isinstance(schema.get("additionalProperties"), dict):
        kind = kind.replace("object", f"object of {_takes(schema['additionalProperties'])}")
    kind = "time".join(kind.split("string")) if schema.get("format") == "date-time" else kind
    return kind + _limits(schema)


def _limits(schema: Schema) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    if most is not None:
        return f", {least} to {most}"
    for name, unit in (("maxLength", "characters"), ("maxItems", ""), ("maxProperties", "")):
        if name in schema:
            return f", at most {schema[name]} {unit}".rstrip()
    return ""


def _errors(document: dict[str, Any]) -> list[str]:
    lines = _table("status", "meaning")
    for name, status in sorted(STATUS_OF.items(), key=lambda each: each[1]):
        lines.append(_row(status, document["components"]["responses"][name]["description"]))
    return lines
