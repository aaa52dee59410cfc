"""docs/openapi.json: current, valid, and in step with the code that reads and answers."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # its stubs would be one lock entry more
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from services.api.config import default_config
from services.api.http.openapi import responses, submission
from services.api.http.openapi.document import document, text
from services.api.http.openapi.operations import STATUS_OF
from services.api.http.openapi.page import page
from services.api.http.responses import _STATUSES
from services.api.submission import capacity, request
from shared.events.requirements import Resources

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROOT = Path(__file__).resolve().parent.parent.parent
DEFAULTS = default_config()
DOCUMENT = document(DEFAULTS.http, DEFAULTS.bounds)
SCHEMAS = DOCUMENT["components"]["schemas"]
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}


def taken(schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    """Make a validator for *schema*, which may refer to others of the document."""
    return jsonschema.Draft202012Validator({**schema, "components": DOCUMENT["components"]})


def test_the_document_in_docs_is_what_the_code_says() -> None:
    written = (ROOT / "docs" / "openapi.json").read_text(encoding="utf-8")
    assert written == text(DEFAULTS.http, DEFAULTS.bounds), "the HTTP API has changed: make docs"


def test_the_page_in_docs_is_what_the_document_says() -> None:
    written = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert written == page(DOCUMENT), "the HTTP API has changed: make docs"


def test_it_is_an_openapi_document() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_one_and_is_used(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])
    assert f'"#/components/schemas/{name}"' in json.dumps(DOCUMENT) or name in ("LogLine", "Change")


def test_every_error_of_ours_has_its_status_in_the_document() -> None:
    assert {str(status) for status in _STATUSES.values()} <= set(STATUS_OF.values())
    assert set(STATUS_OF) == set(DOCUMENT["components"]["responses"])


def test_a_job_to_schedule_has_the_fields_that_are_read() -> None:
    assert tuple(SCHEMAS["JobRequest"]["properties"]) == request.FIELDS
    resources = capacity.ResourcesRequest.__struct_fields__
    assert tuple(SCHEMAS["Resources"]["properties"]) == resources
    assert set(resources) == set(Resources.__struct_fields__)


def test_the_limits_are_those_of_the_deployment() -> None:
    bounds = DEFAULTS.bounds
    longer = submission.schemas(
        type(bounds)(default_timezone="Europe/Berlin", max_lifetime_seconds=7)
    )
    properties = longer["JobRequest"]["properties"]
    assert properties["timeout_seconds"]["maximum"] == 7
    assert properties["timezone"]["default"] == "Europe/Berlin"


EXAMPLES = [
    (field, example)
    for field, schema in SCHEMAS["JobRequest"]["properties"].items()
    for example in (schema.get("anyOf") or [schema])[0].get("examples", ())
]


@pytest.mark.parametrize(("field", "example"), EXAMPLES)
def test_every_example_fits_its_schema_and_is_taken(field: str, example: Any) -> None:
    job = {"docker_image": "alpine", "scheduled_for": "now", field: example}
    taken({"$ref": "#/components/schemas/JobRequest"}).validate(job)
    bounds = request.Bounds(default_timezone="UTC", max_lifetime_seconds=86_400, keeps_secrets=True)
    request.read_job(job, NOW, bounds)


@pytest.mark.parametrize(
    "wrong",
    [
        {"docker_image": ""},
        {"docker_image": "al pine"},
        {"scheduled_for": None},
        {"env_vars": {"1A": "x"}},
        {"env_vars": {"A": "a\0"}},
        {"env_vars": {"A": []}},
        {"labels": {"": "x"}},
        {"labels": {"a": 1}},
        {"labels": {"a:b": "x"}},
        {"timeout_seconds": 0},
        {"timeout_seconds": 86_401},
        {"name": " "},
        {"resources": {"vcpus": 0}},
        {"resources": {"instance_types": ["large"]}},
        {"resources": {"cores": 1}},
        {"capacity": "cheap"},
        {"retries": 101},
        {"secrets": {"A": "a place"}},
        {"cmd": ["echo"]},
    ],
    ids=str,
)
def test_what_the_api_refuses_does_not_fit(wrong: dict[str, Any]) -> None:
    job = {"docker_image": "alpine", "scheduled_for": "now"} | wrong
    bounds = request.Bounds(default_timezone="UTC", max_lifetime_seconds=86_400)
    with pytest.raises(request.BadRequest):
        request.read_job(job, NOW, bounds)
    assert not taken({"$ref": "#/components/schemas/JobRequest"}).is_valid(job)


def test_every_field_of_a_response_is_described() -> None:
    listed = responses.OF_A_JOB | responses.OF_A_LISTED_JOB
    assert list(SCHEMAS["Job"]["properties"]) == list(listed)
    assert list(SCHEMAS["Attempt"]["properties"]) == [*responses.OF_AN_ATTEMPT, "phases"]


@pytest.mark.parametrize("call", OPERATIONS)
def test_every_operation_says_what_it_is_and_what_may_come(call: str) -> None:
    operation = OPERATIONS[call]
    assert operation["summary"].endswith((".", "?"))
    assert {"400", "408", "431", "500", "503"} <= set(operation["responses"])
    assert ("413" in operation["responses"]) == ("requestBody" in operation)
