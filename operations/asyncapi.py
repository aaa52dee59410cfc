"""The events as an AsyncAPI 3 document, made from the code: `make docs` writes docs/asyncapi.json.

An application's document describes what it sends: each event has a channel of its own, which on
RabbitMQ is a routing key of one exchange (https://www.asyncapi.com/docs/reference/specification/v3.0.0).
"""

import inspect
import json
import sys
from typing import Any

import msgspec

from operations.wiring import SERVICES
from shared.bus.rabbitmq.topology import EXCHANGE
from shared.events import cloudevents, events
from shared.events.events import Event
from shared.messaging import store as messages

BINDING_VERSION = "0.3.0"  # of the AMQP 0-9-1 bindings
VERSION = "2.0.0"  # 1 was an event a message, in an envelope of our own

ABOUT = """\
The events of docker-job: facts, in the past tense. Bind a queue of your own to the topic \
exchange, as described in docs/events.md.

A message is a batch: a JSON array of CloudEvents 1.0 of one type, which is the routing key. The \
AMQP binding of CloudEvents knows no batches: this is a convention of our own.

An event comes at least once and in any order: its `id` identifies a repeat, which may come in \
another batch. Events only ever grow by optional fields: a reader ignores fields it does not know.\
"""


CLOUD_EVENT = "A CloudEvent 1.0 in its JSON format, with two extensions."
ATTRIBUTES = {
    "id": "The same in each repeat.",
    "source": "The publisher: /docker-job/<deployment>/<service>.",
    "type": "The event's name, which is the message's routing key too.",
    "subject": "The job's id, where the event is about a job.",
    "time": "The time of its publication.",
    "traceparent": "W3C trace context: the trace is the same for all that one request led to.",
    "causationid": "The id of the event that led to this one.",
}


def document() -> dict[str, Any]:
    """Build the whole document."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "docker-job events",
            "version": VERSION,
            "description": ABOUT,
            "license": {"name": "MIT"},
        },
        "defaultContentType": cloudevents.CONTENT_TYPE,
        "servers": {
            "broker": {
                "host": "rabbitmq:5672",
                "protocol": "amqp",
                "protocolVersion": "0.9.1",
                "description": "The RabbitMQ of compose.yaml, from inside its network.",
            }
        },
        "channels": {name: _channel(kind) for name, kind in events.BY_NAME.items()},
        "operations": {
            f"publish{name}": _operation(name) for name in events.BY_NAME if _publishers(name)
        },
        "components": {
            "messages": {name: _message(kind) for name, kind in events.BY_NAME.items()},
            "schemas": _schemas(),
        },
    }


def _channel(kind: type[Event]) -> dict[str, Any]:
    name = kind.__name__
    return {
        "address": name,
        "description": _about(kind),
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        "bindings": {
            "amqp": {
                "is": "routingKey",
                "exchange": {
                    "name": EXCHANGE,
                    "type": "topic",
                    "durable": True,
                    "autoDelete": False,
                    "vhost": "/",
                },
                "bindingVersion": BINDING_VERSION,
            }
        },
    }


def _operation(name: str) -> dict[str, Any]:
    readers = [each.NAME for each in SERVICES if events.BY_NAME[name] in each.CONSUMES]
    consumers = f"the {' and the '.join(readers)}" if readers else "outside readers alone"
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{name}"},
        "summary": f"Published by the {' and the '.join(_publishers(name))}, read by {consumers}.",
        "messages": [{"$ref": f"#/channels/{name}/messages/{name}"}],
        "bindings": {"amqp": {"deliveryMode": 2, "bindingVersion": BINDING_VERSION}},
    }


def _publishers(name: str) -> list[str]:
    return [each.NAME for each in SERVICES if events.BY_NAME[name] in each.PUBLISHES]


def _message(kind: type[Event]) -> dict[str, Any]:
    name = kind.__name__
    return {
        "name": name,
        "title": name,
        "summary": _about(kind).split("\n", 1)[0],
        "contentType": cloudevents.CONTENT_TYPE,
        "payload": {
            "type": "array",
            "minItems": 1,
            "maxItems": messages.PACK_EVENTS,
            "items": {
                "allOf": [
                    {"$ref": "#/components/schemas/CloudEvent"},
                    {
                        "type": "object",
                        "properties": {
                            "type": {"const": name},
                            "data": {"$ref": f"#/components/schemas/{name}"},
                        },
                    },
                ]
            },
        },
    }


def _schemas() -> dict[str, Any]:
    """Build the JSON Schema of each event, of its parts, and of the CloudEvent around it."""
    _, schemas = msgspec.json.schema_components(
        [cloudevents.Envelope, *events.ALL], ref_template="#/components/schemas/{name}"
    )
    del schemas[Event.__name__]  # the message says which event its data is
    envelope = schemas.pop(cloudevents.Envelope.__name__)
    envelope["title"], envelope["description"] = "CloudEvent", CLOUD_EVENT
    envelope["properties"]["data"] = {"type": "object"}
    for name, about in ATTRIBUTES.items():
        envelope["properties"][name] = _given(envelope["properties"][name]) | {"description": about}
    schemas = {"CloudEvent": envelope, **schemas}
    for schema in schemas.values():
        schema["description"] = inspect.cleandoc(schema["description"])
    return schemas


def _given(schema: dict[str, Any]) -> dict[str, Any]:
    """Return *schema* without null: an unknown attribute is absent."""
    known = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    return known[0] if known else schema


def _about(kind: type[Event]) -> str:
    return inspect.cleandoc(kind.__doc__ or kind.__name__)


def text() -> str:
    """Return the text of docs/asyncapi.json."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
