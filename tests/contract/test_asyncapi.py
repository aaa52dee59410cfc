"""docs/asyncapi.json: current, valid, and true to the goldens.

The official schema of AsyncAPI 3 is published for npm alone, and most of its 380 kB are about
protocols that are not ours; the document passed it (@asyncapi/specs 6.11.1, schemas/3.0.0.json).
What is checked here of the structure is `STRUCTURE`, after the specification: which objects there
are, what each must have, and that it has nothing else.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # its stubs would be one lock entry more
import pytest

from operations.asyncapi import document, text
from operations.wiring import SERVICES
from shared.bus.rabbitmq.topology import EXCHANGE
from shared.events import events

ROOT = Path(__file__).resolve().parent.parent.parent
GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.json"))

DOCUMENT = document()


def an_object(required: list[str], **properties: object) -> dict[str, Any]:
    """Make a schema of an object of the specification: extended by x-… fields alone."""
    return {
        "type": "object",
        "required": required,
        "properties": properties,
        "patternProperties": {"^x-": {}},
        "additionalProperties": False,
    }


def named(value: object) -> dict[str, Any]:
    """Make a schema of a map whose keys fit the specification's pattern for names."""
    return {
        "type": "object",
        "patternProperties": {r"^[A-Za-z0-9_\-]+$": value},
        "additionalProperties": False,
    }


STRING = {"type": "string"}
REFERENCE = {"type": "object", "required": ["$ref"], "maxProperties": 1}
AMQP_CHANNEL = an_object(
    ["is", "exchange", "bindingVersion"],
    **{"is": {"const": "routingKey"}},
    exchange=an_object(
        ["name", "type", "durable", "autoDelete"],
        name={"type": "string", "maxLength": 255},
        type={"enum": ["topic", "direct", "fanout", "default", "headers"]},
        durable={"type": "boolean"},
        autoDelete={"type": "boolean"},
        vhost=STRING,
    ),
    bindingVersion={"const": "0.3.0"},
)
AMQP_OPERATION = an_object(
    ["bindingVersion"], deliveryMode={"enum": [1, 2]}, bindingVersion={"const": "0.3.0"}
)
STRUCTURE = an_object(
    ["asyncapi", "info"],
    asyncapi={"const": "3.0.0"},
    info=an_object(
        ["title", "version"],
        title=STRING,
        version={"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
        description=STRING,
        license=an_object(["name"], name=STRING, url=STRING),
    ),
    defaultContentType=STRING,
    servers=named(
        an_object(
            ["host", "protocol"],
            host=STRING,
            protocol=STRING,
            protocolVersion=STRING,
            description=STRING,
        )
    ),
    channels=named(
        an_object(
            [],
            address=STRING,
            description=STRING,
            messages=named(REFERENCE),
            bindings=an_object([], amqp=AMQP_CHANNEL),
        )
    ),
    operations=named(
        an_object(
            ["action", "channel"],
            action={"enum": ["send", "receive"]},
            channel=REFERENCE,
            summary=STRING,
            messages={"type": "array", "items": REFERENCE},
            bindings=an_object([], amqp=AMQP_OPERATION),
        )
    ),
    components=an_object(
        [],
        messages=named(
            an_object(
                [],
                name=STRING,
                title=STRING,
                summary=STRING,
                contentType=STRING,
                headers={"type": "object"},
                payload={"type": "object"},
            )
        ),
        schemas=named({"type": "object"}),
    ),
)


def references(value: object) -> Iterator[str]:
    """Every `$ref` in *value*."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "$ref":
                yield inner
            else:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def payload_of(name: str) -> jsonschema.Draft7Validator:
    """Make a validator for the messages of one event."""
    payload = DOCUMENT["components"]["messages"][name]["payload"]
    return jsonschema.Draft7Validator(
        {**payload, "components": DOCUMENT["components"]},
        format_checker=jsonschema.Draft7Validator.FORMAT_CHECKER,
    )


def test_the_document_in_docs_is_what_the_code_says() -> None:
    written = (ROOT / "docs" / "asyncapi.json").read_text(encoding="utf-8")
    assert written == text(), "the events have changed: make docs"


def test_it_has_the_structure_of_asyncapi_3() -> None:
    jsonschema.Draft7Validator(STRUCTURE).validate(DOCUMENT)


def test_every_reference_leads_somewhere() -> None:
    for reference in references(DOCUMENT):
        found: Any = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            assert step in found, reference
            found = found[step]


def test_every_event_has_its_channel_on_the_exchange_that_is_declared() -> None:
    assert list(DOCUMENT["channels"]) == [event.__name__ for event in events.ALL]
    for name, channel in DOCUMENT["channels"].items():
        assert channel["address"] == name
        assert channel["bindings"]["amqp"]["exchange"]["name"] == EXCHANGE
    published = {event.__name__ for service in SERVICES for event in service.PUBLISHES}
    assert {f"publish{name}" for name in published} == set(DOCUMENT["operations"])


@pytest.mark.parametrize("name", DOCUMENT["components"]["schemas"])
def test_every_schema_is_one(name: str) -> None:
    jsonschema.Draft7Validator.check_schema(DOCUMENT["components"]["schemas"][name])


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_every_golden_fits_its_message(path: Path) -> None:
    payload_of(path.name.split(".")[0]).validate(json.loads(path.read_bytes()))


def test_the_message_that_the_page_shows_fits_and_shows_every_field() -> None:
    page = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
    shown = json.loads(page.partition("```json\n")[2].partition("```")[0])
    payload_of("JobFinished").validate(shown)
    schemas = DOCUMENT["components"]["schemas"]
    assert set(shown[0]) == set(schemas["CloudEvent"]["properties"])
    assert set(shown[0]["data"]) == set(schemas["JobFinished"]["properties"])


@pytest.mark.parametrize("name", events.BY_NAME)
def test_what_is_another_event_or_lacks_a_field_does_not_fit(name: str) -> None:
    [whole] = json.loads((Path(__file__).parent / "golden" / f"{name}.0.json").read_bytes())
    validator = payload_of(name)
    assert validator.is_valid([whole, whole])
    assert not validator.is_valid([])
    assert not validator.is_valid(whole)
    assert not validator.is_valid([whole, whole | {"type": "JobEaten"}])
    assert not validator.is_valid([whole | {"id": 7}])
    assert not validator.is_valid([whole | {"specversion": "0.3"}])
    first = next(iter(whole["data"]))
    data = {key: value for key, value in whole["data"].items() if key != first}
    assert not validator.is_valid([whole | {"data": data}])
