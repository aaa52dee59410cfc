"""The parameters of the list of jobs, and the filters that it shares with other routes."""

from typing import get_args

from services.api.http.filters import MAX_IMAGE, MAX_TEXT, PROJECT
from services.api.http.openapi.operations import parameter
from services.api.http.openapi.shapes import (
    LARGEST_ID,
    NO_NUL,
    Schema,
    a_list,
    one_of,
    whole,
)
from services.api.http.openapi.times import TIME
from services.api.http.times import FORMS
from services.api.jobs.fields import MAX_LABELS
from services.api.jobs.filters import Order
from services.api.jobs.model import STATUSES
from services.api.jobs.search import MOST_READ

_LIMIT = (
    "A page's size; `all` streams all jobs that match. The search for a page ends after some "
    f"{MOST_READ:,} jobs that do not match: it may have fewer jobs, even none, although more "
    "follow. Go on with `Link` until there is none."
)


def filters() -> list[Schema]:
    """Return the parameters of the filters that routes share."""
    label = a_list({"type": "string", "pattern": r"^[^:\u0000]+:[^\u0000]*$"})
    return [
        parameter(
            "query",
            "status",
            "One of these, in upper or lower case; several are given one by one, or separated by "
            "commas.",
            a_list(one_of(STATUSES)),
        ),
        parameter(
            "query",
            "label",
            f"`name:value`; of several, at most {MAX_LABELS}, all must match.",
            label | {"maxItems": MAX_LABELS},
        ),
        parameter("query", "name", "The job's name.", _text(MAX_TEXT)),
        parameter("query", "image", "The image, as it was given.", _text(MAX_IMAGE)),
        parameter(
            "query",
            "q",
            "A part of the id, the name, the image or a label's value, in upper or lower case.",
            _text(MAX_TEXT),
        ),
        project(),
    ]


def project() -> Schema:
    """Return the parameter of routes that show the jobs of one project."""
    return parameter(
        "query",
        PROJECT,
        "The project of the jobs. A key that is not `admin` sees its own alone: with any other "
        "project the answer is a 403.",
        _text(MAX_TEXT),
    )


def parameters(most: int) -> list[Schema]:
    """Return the parameters of the route."""
    limit = {"anyOf": [whole(1, most), {"const": "all"}], "default": most}
    cursor = {"anyOf": [whole(1, LARGEST_ID), {"type": "string", "pattern": "^[0-9]+-[0-9]+$"}]}
    by = one_of(get_args(Order), default="created")
    return [
        parameter("query", "limit", _LIMIT, limit),
        parameter("query", "cursor", "Where the page begins: from a `Link`.", cursor),
        *filters(),
        parameter("query", "since", f"From this time on: {FORMS}.", TIME),
        parameter("query", "until", "Before this time, in the same forms.", TIME),
        parameter(
            "query",
            "by",
            "The time that counts for `since` and `until` and orders the list; with `finished` "
            "only finished jobs are in it.",
            by,
        ),
    ]


def _text(most: int) -> Schema:
    return {"type": "string", "pattern": NO_NUL, "minLength": 1, "maxLength": most}
