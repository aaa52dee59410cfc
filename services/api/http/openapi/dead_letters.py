"""The routes, parameters and schemas of dead letters."""

from typing import Any

from services.api.dead_letters.letters import AskedAnswer, ListedLetter, ShownLetter
from services.api.http.openapi.operations import USERS, answer, operation, parameter
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


def paths() -> dict[str, Any]:
    """Describe the routes."""
    return {
        "/deadletters": {"get": _list()},
        "/deadletters/{event_id}": {"get": _show(), "delete": _ask("drop")},
        "/deadletters/{event_id}/redrive": {"post": _ask("redrive")},
    }


def _list() -> dict[str, Any]:
    limit = whole(1, MOST_LETTERS, default=DEFAULT_LETTERS)
    return operation(
        "listDeadLetters",
        "List the events that have not taken effect, of all services, newest first.",
        "admin",
        ("BadRequest", *USERS),
        {"200": answer("As the services have last reported them.", "DeadLetters")},
        parameters=[
            _service(),
            parameter("query", "event", "The event's name.", {"type": "string"}),
            parameter("query", "limit", "How many at most.", limit),
        ],
    )


def _show() -> dict[str, Any]:
    return operation(
        "showDeadLetter",
        "Show one of them with its content.",
        "admin",
        ("NoSuchLetter", "BadRequest", *USERS),
        {"200": answer("As its service has last reported it.", "DeadLetterDetail")},
        parameters=[_event_id(), _service()],
    )


def _ask(what: str) -> dict[str, Any]:
    summaries = {
        "redrive": "Ask its service to hand it to its handler again, now.",
        "drop": "Ask its service to delete it for good.",
    }
    return operation(
        f"{what}DeadLetter",
        summaries[what],
        "admin",
        ("NoSuchLetter", "LetterInBroker", "BadRequest", *USERS),
        {"202": answer("Asked; the next report shows what became of it.", "DeadLetterAsked")},
        parameters=[_event_id(), _service()],
    )


def _event_id() -> Schema:
    schema: Schema = {"type": "string", "pattern": "^[^/]+$"}
    return parameter("path", "event_id", "The letter's.", schema) | {"required": True}


def _service() -> Schema:
    about = "Of this service alone: several may have the same event."
    return parameter("query", "service", about, one_of(EVERY_SERVICE))


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
