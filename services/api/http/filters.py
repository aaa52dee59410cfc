"""Reading the parameters that filter jobs. Each function raises `BadRequest`."""

from typing import get_args

from starlette.datastructures import QueryParams

from services.api.jobs.fields import MAX_LABELS
from services.api.jobs.filters import Filters, Order
from services.api.jobs.model import STATUSES
from services.api.keys.access import Denied
from services.api.keys.caller import Caller
from services.api.submission.request import BadRequest

PROJECT = "project"
FILTERS = ("name", "image", "q", PROJECT)
MANY_FILTERS = ("status", "label")
TIMES = ("since", "until", "by")
MAX_TEXT = 256
MAX_IMAGE = 4096


def read_filters(query: QueryParams, caller: Caller) -> Filters:
    """Read the filters that `/list` and others share: `FILTERS` and `MANY_FILTERS`.

    They are of jobs that *caller* sees. Raises `Denied`.
    """
    return Filters(
        statuses=_statuses(query.getlist("status")),
        labels=_labels(query.getlist("label")),
        name=_text(query, "name", MAX_TEXT),
        image=_text(query, "image", MAX_IMAGE),
        text=_text(query, "q", MAX_TEXT),
        project=read_project(query, caller),
    )


def read_project(query: QueryParams, caller: Caller) -> str | None:
    """Return the project whose jobs alone are asked for; None: those of all projects.

    Raises `Denied` if *caller* asks for a project that it does not see, whether there is one or
    not.
    """
    project, sees = _text(query, PROJECT, MAX_TEXT), caller.sees
    if sees is None:
        return project
    if project not in (None, sees):
        raise Denied(403, f"project must be {sees}: this API key sees the jobs of no other project")
    return sees


def read_order(query: QueryParams) -> Order:
    """Read `by`: the time that counts for `since` and `until`, and gives the order."""
    by = query.get("by", "created")
    for order in get_args(Order):
        if by == order:
            found: Order = order
            return found
    raise BadRequest(f"by must be one of {', '.join(get_args(Order))}")


def _statuses(given: list[str]) -> tuple[str, ...]:
    statuses = [each for text in given for each in text.split(",")]
    for each in statuses:
        if not (each.isascii() and each.upper() in STATUSES):
            raise BadRequest(f"status must be one of {', '.join(STATUSES)}")
    return tuple(dict.fromkeys(each.upper() for each in statuses))


def _labels(given: list[str]) -> tuple[tuple[str, str], ...]:
    if len(given) > MAX_LABELS:
        raise BadRequest(f"label is given {len(given)} times: a job has at most {MAX_LABELS}")
    labels = []
    for label in given:
        name, colon, value = label.partition(":")
        if not name or not colon:
            raise BadRequest("label must be name:value, like label=team:data")
        _check_no_nul("label", label)
        labels.append((name, value))
    return tuple(labels)


def _text(query: QueryParams, name: str, most: int) -> str | None:
    text = query.get(name)
    if text is None:
        return None
    if not 1 <= len(text) <= most:
        raise BadRequest(f"{name} must have 1 to {most} characters")
    _check_no_nul(name, text)
    return text


def _check_no_nul(name: str, text: str) -> None:
    if "\0" in text:  # Postgres has none in a text
        raise BadRequest(f"{name} must not hold a NUL character")
