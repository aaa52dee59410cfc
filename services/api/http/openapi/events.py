"""The parameters and the answer of the route that streams the changes of jobs."""

from typing import Any

from services.api.http.change_events import ChangeEvent
from services.api.http.filters import MAX_IMAGE, MAX_TEXT
from services.api.http.openapi.shapes import (
    LARGEST_ID,
    NO_NUL,
    Schema,
    a_list,
    an_object,
    described,
    one_of,
    typed,
    whole,
)
from services.api.http.routes.events import MAX_JOBS, POSITION
from services.api.jobs.fields import MAX_LABELS
from services.api.jobs.model import STATUSES

OF_A_CHANGE = {
    "id": "The job's number.",
    "name": "As given.",
    "docker_image": "As given.",
    "labels": "As given.",
    "status": "The status after the change.",
    "phase": "The phase then, as in `GET /list`; `launching` has no change of its own.",
    "reason": "Why the job was there, in one sentence: its `status_reason` then.",
    "attempt": "The number of the current attempt.",
    "at": "The time of the change.",
}
"""The fields of a `ChangeEvent`, in the same order."""


def parameters() -> list[Schema]:
    """Return the parameters of the route."""
    label = a_list({"type": "string", "pattern": r"^[^:\u0000]+:[^\u0000]*$"})
    job = a_list(whole(1, LARGEST_ID)) | {"maxItems": MAX_JOBS}
    of_jobs = {
        "job": ("Changes of these jobs.", job),
        "status": ("Changes to one of these, with commas or repeated.", _statuses()),
        "label": ("`name:value`; of several all must match.", label | {"maxItems": MAX_LABELS}),
        "name": ("The job's name.", _text(MAX_TEXT)),
        "image": ("Its image, as given.", _text(MAX_IMAGE)),
        "q": ("In its id, name, image or the value of a label, in any case.", _text(MAX_TEXT)),
        "after": ("As `Last-Event-ID`, which counts if both are given.", _position()),
    }
    about = "Continue after the event with this id; without it with what changes from now on."
    header = {"name": "Last-Event-ID", "in": "header", "description": about, "schema": _position()}
    return [
        *(
            {"name": name, "in": "query", "description": text, "schema": schema}
            for name, (text, schema) in of_jobs.items()
        ),
        header,
    ]


def answers() -> dict[str, Any]:
    """Return the answers of the route that are no errors."""
    stream = {
        "description": "Server-sent events without an end, in the order in which the changes were "
        "committed. First an `id` alone: the place to continue after, also sent now and then when "
        "nothing happens. `change`: `data` is a `Change` in JSON. `reset`: changes after the given "
        "id are no longer known (they are kept for `DOCKER_JOB_CHANGES_KEEP_HOURS`, by default a "
        "day); read the list again, then go on with the stream.",
        "content": {"text/event-stream; charset=utf-8": {}},  # 3.1 cannot describe an event
    }
    return {"200": stream}


def schemas() -> dict[str, Schema]:
    """Return the schemas by their names."""
    properties = {
        name: described(about, typed(ChangeEvent, name)) for name, about in OF_A_CHANGE.items()
    }
    return {"Change": an_object(properties, about="The data of an event of `GET /events`.")}


def _statuses() -> Schema:
    return a_list({"anyOf": [one_of(STATUSES), {"type": "string"}]})


def _text(most: int) -> Schema:
    return {"type": "string", "minLength": 1, "maxLength": most, "pattern": NO_NUL}


def _position() -> Schema:
    return {"type": "string", "pattern": POSITION}
