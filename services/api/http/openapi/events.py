"""The parameters and the answer of the route that streams the changes of jobs."""

from typing import Any

from services.api.http.change_events import ChangeEvent
from services.api.http.openapi import listing
from services.api.http.openapi.operations import parameter
from services.api.http.openapi.shapes import (
    LARGEST_ID,
    Schema,
    a_list,
    an_object,
    described,
    typed,
    whole,
)
from services.api.http.routes.events import MAX_JOBS, POSITION

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
    job = a_list(whole(1, LARGEST_ID)) | {"maxItems": MAX_JOBS}
    position: Schema = {"type": "string", "pattern": POSITION}
    about = "Continue after the event with this id; without it with what changes from now on."
    return [
        parameter("query", "job", "Changes of these jobs.", job),
        *listing.filters(),
        parameter(
            "query", "after", "As `Last-Event-ID`, which counts if both are given.", position
        ),
        parameter("header", "Last-Event-ID", about, position),
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
