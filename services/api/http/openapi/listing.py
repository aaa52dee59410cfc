"""The parameters of the list of jobs, and the filters that it shares with other routes."""

from typing import get_args

from services.api.http.filters import MAX_IMAGE, MAX_TEXT
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
        _query(
            "status",
            "One of these, in upper or lower case; several are given one by one, or separated by "
            "commas.",
            a_list(one_of(STATUSES)),
        ),
        _query(
            "label",
            f"`name:value`; of several, at most {MAX_LABELS}, all must match.",
            label | {"maxItems": MAX_LABELS},
        ),
        _query("name", "The job's name.", _text(MAX_TEXT)),
        _query("image", "The image, as it was given.", _text(MAX_IMAGE)),
        _query(
            "q",
            "A part of the id, the name, the image or a label's value, in upper or lower case. "
            "Reads the jobs one by one: the fewer match the other filters, the quicker.",
            _text(MAX_TEXT),
        ),
    ]


def parameters(most: int) -> list[Schema]:
    """Return the parameters of the route."""
    limit = {"anyOf": [whole(1, most), {"const": "all"}], "default": most}
    cursor = {"anyOf": [whole(1, LARGEST_ID), {"type": "string", "pattern": "^[0-9]+-[0-9]+$"}]}
    by = one_of(get_args(Order), default="created")
    return [
        _query("limit", _LIMIT, limit),
        _query("cursor", "Where the page begins: from the `Link` of the one before.", cursor),
        *filters(),
        _query("since", f"From this time on: {FORMS}.", TIME),
        _query("until", "Before this time, in the same forms.", TIME),
        _query(
            "by",
            "The time that counts for `since` and `until` and orders the list; with `finished` "
            "only finished jobs are in it.",
            by,
        ),
    ]


def _text(most: int) -> Schema:
    return {"type": "string", "pattern": NO_NUL, "minLength": 1, "maxLength": most}


def _query(name: str, about: str, schema: Schema) -> Schema:
    return {"name": name, "in": "query", "description": about, "schema": schema}
