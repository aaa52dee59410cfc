"""A check that every answer in a test is described by the OpenAPI document, to the last field."""

import json
import re
from functools import cache
from typing import Any

import httpx
import jsonschema  # type: ignore[import-untyped]  # its stubs would be one lock entry more

from services.api.config import default_config
from services.api.http.openapi.document import document

DEFAULTS = default_config()
DOCUMENT = document(DEFAULTS.http, DEFAULTS.bounds)
ENOUGH = 20
"""The items of an array that are checked: a thousand jobs have the same fields."""

ROUTES = [
    (re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), methods)
    for path, methods in DOCUMENT["paths"].items()
]


def closed(schema: Any) -> Any:
    """Close *schema* to fields that it does not name."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(each) for name, each in schema.items()}
    if "properties" in schema and schema.get("type") == "object":
        inner.setdefault("additionalProperties", False)
    return inner


COMPONENTS = {"schemas": closed(DOCUMENT["components"]["schemas"])}


@cache
def validator(schema: str) -> Any:
    """Make a validator for a schema in JSON, closed."""
    whole = {**closed(json.loads(schema)), "components": COMPONENTS}
    return jsonschema.Draft202012Validator(whole, format_checker=jsonschema.FormatChecker())


def response_of(answer: httpx.Response) -> dict[str, Any] | None:
    """Find the description of this answer; None if the document has no such route."""
    method = answer.request.method.lower().replace("head", "get")
    for path, methods in ROUTES:
        if path.fullmatch(answer.request.url.path) and method in methods:
            responses: dict[str, dict[str, Any]] = methods[method]["responses"]
            assert str(answer.status_code) in responses, f"{answer.status_code} is not described"
            found = responses[str(answer.status_code)]
            if "$ref" in found:
                found = DOCUMENT["components"]["responses"][found["$ref"].rpartition("/")[2]]
            return found
    return None


async def check(answer: httpx.Response) -> None:
    """Fail if *answer* is not as described; only the head of a stream is checked."""
    if answer.headers.get("content-type") in ("application/json", None):
        await answer.aread()
    check_now(answer)


def check_now(answer: httpx.Response) -> None:
    """Fail if *answer*, which is complete, is not as described."""
    response = response_of(answer)
    if response is None:
        assert answer.status_code in (404, 405), answer.request.url
        response = DOCUMENT["components"]["responses"]["BadRequest"]
    if "content" not in response:
        assert answer.content == b""
        return
    kind = answer.headers["content-type"]
    assert kind in response["content"], kind
    if kind != "application/json" or answer.request.method == "HEAD":
        return
    body = answer.json()
    if isinstance(body, list):
        body = body[:ENOUGH]
    validator(json.dumps(response["content"][kind]["schema"])).validate(body)
