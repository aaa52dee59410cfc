"""The routes, parameters and schemas of dead letters."""

from typing import Any

from services.api.dead_letters.letters import AskedAnswer, ListedLetter, ShownLetter
from services.api.http.openapi.shapes import (
    Schema,
    a_list,
    an_object,
    described,
    one_of,
    ref,
    typed,
    whole,
)
from services.api.http.routes.dead_letters import DEFAULT_LETTERS, MOST_LETTERS
from shared.events.readers import EVERY_SERVICE

OF_A_LETTER = {
    "event_id": "The event's id; in the broker, the message's.",
    "service": "The service on which it has had no effect.",
    "place": "`parked`: a row of the service; `broker`: a message in the broker's "
    "`<service>.dead`.",
    "state": "`waiting`: it is retried; `dead`: no longer.",
    "event": "The event's name.",
    "job_id": "The job that its content names.",
    "tries": "How often its handler failed; null: it never ran.",
    "error": "The last error, of which at most 500 characters are kept.",
    "since": "The time when it was parked, or given up by the broker.",
}
"""The fields of a `ListedLetter`, in the same order."""

OF_ITS_CONTENT = {
    "body": "The beginning of its content, without what looks like a secret.",
    "body_bytes": "The length of all of its content.",
}


def list_parameters() -> list[Schema]:
    """Return the parameters of the list."""
    text: Schema = {"type": "string"}
    limit = whole(1, MOST_LETTERS, default=DEFAULT_LETTERS)
    return [
        service_parameter(),
        {"name": "event", "in": "query", "description": "The event's name.", "schema": text},
        {"name": "limit", "in": "query", "description": "How many at most.", "schema": limit},
    ]


def one_parameters() -> list[Schema]:
    """Return the parameters of the routes about one letter."""
    about = "The letter's `event_id`."
    schema: Schema = {"type": "string", "pattern": "^[^/]+$"}
    event_id = {"name": "event_id", "in": "path", "required": True}
    return [{**event_id, "description": about, "schema": schema}, service_parameter()]


def service_parameter() -> Schema:
    """Return the parameter that names a service."""
    about = "Of this service alone: several may have the same event."
    schema = one_of(EVERY_SERVICE)
    return {"name": "service", "in": "query", "description": about, "schema": schema}


def schemas() -> dict[str, Schema]:
    """Return the schemas by their names."""
    listed = {name: described(about, _of(name)) for name, about in OF_A_LETTER.items()}
    content = {name: described(about, _of(name)) for name, about in OF_ITS_CONTENT.items()}
    when: Schema = {"type": "string", "format": "date-time"}
    asked: dict[str, Any] = {
        "event_id": typed(AskedAnswer, "event_id"),
        "service": described(
            "The service that is asked; of several, their names with commas.",
            typed(AskedAnswer, "service"),
        ),
        "asked_at": typed(AskedAnswer, "asked_at"),
    }
    return {
        "DeadLetter": an_object(listed, about="An event that has not taken effect."),
        "DeadLetterDetail": an_object(listed | content, about="A dead letter with its content."),
        "DeadLetters": an_object(
            {
                "as_of": described(
                    "The time of each service's last report: it reports every change, and once "
                    "an hour.",
                    {"type": "object", "additionalProperties": when},
                ),
                "total": described(
                    "How many there are, also beyond the newest 100 that a service reports; of "
                    "one `event`, only among these.",
                    {"type": "integer", "minimum": 0},
                ),
                "letters": described("The newest first.", a_list(ref("DeadLetter"))),
            }
        ),
        "DeadLetterAsked": an_object(asked, about="Its service will do it; asking twice is safe."),
    }


def _of(name: str) -> Schema:
    return typed(ListedLetter if name in ListedLetter.__struct_fields__ else ShownLetter, name)
