"""The request for a log: the parameters of the route, and its Last-Event-ID."""

import re

from msgspec import Struct
from starlette.datastructures import QueryParams
from starlette.requests import Request

from services.api.agents.log_lines import STREAMS
from services.api.http.parameters import read_query
from services.api.http.sse import last_event_id
from services.api.logs.reader import Place
from services.api.logs.store import LAST_ATTEMPT
from services.api.submission.request import BadRequest

PARAMETERS = ("follow", "attempt", "tail", "timestamps", "streams", "stream")
MAX_TAIL = 2**31 - 1

_FLAGS = {"1": True, "true": True, "0": False, "false": False}
_FLAGS_SAY = {
    "follow": "1 streams until the job has ended",
    "timestamps": "1 puts its time before each line",
    "streams": "1 puts the name of its stream before each line",
}
EVENT_ID = r"^([0-9]{1,10}\.[0-9]{1,10}(\.end)?)?$"
_EVENT_ID = re.compile(r"([0-9]{1,10})\.([0-9]{1,10})(\.end)?")


class LogQuery(Struct, frozen=True, kw_only=True):
    """The part of a log that is read, and how it is shown.

    `tail`: the number of last lines, None for all. `after`: the place of the last event that the
    client has, None if it has none; `has_end`: that event was the end.
    """

    follow: bool = False
    attempt: int | None = None
    tail: int | None = None
    timestamps: bool = False
    streams: bool = False
    stream: str | None = None
    after: Place | None = None
    has_end: bool = False

    @property
    def upto(self) -> int:
        """The last attempt to read."""
        return LAST_ATTEMPT if self.attempt is None else self.attempt


def read_log_query(request: Request) -> LogQuery:
    """Read the parameters. Raises `BadRequest`, which names the one that is wrong."""
    given = read_query(request, *PARAMETERS)
    after, has_end = _last_event(request)
    return LogQuery(
        follow=_flag(given, "follow"),
        attempt=_attempt(given.get("attempt")),
        tail=_tail(given.get("tail")),
        timestamps=_flag(given, "timestamps"),
        streams=_flag(given, "streams"),
        stream=_stream(given.get("stream")),
        after=after,
        has_end=has_end,
    )


def _flag(given: QueryParams, name: str) -> bool:
    raw = given.get(name, "0")
    if raw not in _FLAGS:
        raise BadRequest(f"{name} must be 1 or 0: {_FLAGS_SAY[name]}")
    return _FLAGS[raw]


def _attempt(raw: str | None) -> int | None:
    if raw is None:
        return None
    number = _whole(raw)
    if number is None or not 1 <= number <= LAST_ATTEMPT:
        raise BadRequest("attempt must be the number of an attempt, like attempt=2")
    return number


def _tail(raw: str | None) -> int | None:
    if raw in (None, "all"):
        return None
    number = _whole(raw)
    if number is None or number > MAX_TAIL:
        raise BadRequest(f"tail must be a whole number from 0 to {MAX_TAIL}, or 'all'")
    return number


def _whole(raw: str) -> int | None:
    return int(raw) if re.fullmatch("[0-9]{1,10}", raw) else None


def _stream(raw: str | None) -> str | None:
    if raw is not None and raw not in STREAMS:
        raise BadRequest(f"stream must be one of {', '.join(STREAMS)}")
    return raw


def _last_event(request: Request) -> tuple[Place | None, bool]:
    """Read the id of the last event that the client has; an empty one is none."""
    given = last_event_id(request)
    if given is None:
        return None, False
    found = _EVENT_ID.fullmatch(given)
    if found is None:
        raise BadRequest("Last-Event-ID must be the id of an event of this stream")
    attempt, seq = (min(int(each), LAST_ATTEMPT) for each in found.groups()[:2])
    return (attempt, seq), found[3] is not None
