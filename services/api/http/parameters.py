"""Reading a request's query: each parameter is known, valid text, and given once."""

import re
from urllib.parse import parse_qsl

from starlette.datastructures import QueryParams
from starlette.requests import Request

from services.api.submission.request import BadRequest

BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2}).{0,2}")
SHOWN_CHARACTERS = 100
NOTHING = QueryParams()


def read_query(request: Request, *once: str, many: tuple[str, ...] = ()) -> QueryParams:
    """Return the parameters; *once* and *many* are those that the route has.

    Raises `BadRequest` for another one, for a repeated one of *once*, and for text that is no
    percent-encoded UTF-8.
    """
    raw: bytes = request.scope["query_string"]
    if not raw:
        return NOTHING
    pairs = _pairs(raw)
    given = [name for name, _ in pairs]
    for name in given:
        if name not in once and name not in many:
            raise BadRequest(f"unknown parameter {name[:SHOWN_CHARACTERS]!r}: {_known(once, many)}")
    for name in once:
        if (count := given.count(name)) > 1:
            raise BadRequest(f"{name} is given {count} times: give it once")
    return QueryParams(pairs)


def _pairs(raw: bytes) -> list[tuple[str, str]]:
    try:
        text = raw.decode()
        if broken := BROKEN_ESCAPE.search(text):
            raise BadRequest(f"the query has {broken[0]!r}: write a percent sign as %25")
        return parse_qsl(text, keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise BadRequest("the query is not UTF-8, percent-encoded") from None


def _known(once: tuple[str, ...], many: tuple[str, ...]) -> str:
    names = [*once, *many]
    if not names:
        return "this route has none"
    return f"use {', '.join(names[:-1])}{' or ' if names[1:] else ''}{names[-1]}"
