"""Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html."""

from collections.abc import AsyncIterator
from datetime import datetime

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from services.api.shares import Shares
from services.api.submission.request import BadRequest
from shared.clock import Clock

KEEP_ALIVE_SECONDS = 15.0
"""A follower is sent something as often, and looks by itself if nothing has woken it."""

DATA_ONLY = {"X-Content-Type-Options": "nosniff"}
"""Users and their containers write what they like: no browser may take that for a page."""

EVENTS = "text/event-stream"
EVENT_HEADERS = {**DATA_ONLY, "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class Followed(StreamingResponse):
    """A response of events, which holds a follower's place of *key* until it has ended.

    Making it raises `ShareUsed`: an answer that has begun cannot refuse any more. Nothing may be
    awaited between that and its call, which returns the place.
    """

    def __init__(self, stream: AsyncIterator[str], places: Shares, key: str | None) -> None:
        super().__init__(stream, media_type=EVENTS, headers=EVENT_HEADERS)
        places.take(key)
        self._places = places
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._places.give_back(self._key)


STILL_HERE = ": still here\n"


class Quiet:
    """The time since anything was sent to a client, also if the clock is set back."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: datetime = clock.now()

    def end(self) -> None:
        """Something is sent now."""
        self._since = self._clock.now()

    def is_long(self) -> bool:
        """Return whether it is time for a sign of life."""
        return self.seconds_left() <= 0

    def seconds_left(self, until: datetime | None = None) -> float:
        """Return the time for which nothing need be sent, or that until *until* if it is less."""
        now = self._clock.now()
        left = KEEP_ALIVE_SECONDS - abs((now - self._since).total_seconds())
        return left if until is None else max(0.0, min(left, (until - now).total_seconds()))


def last_event_id(request: Request) -> str | None:
    """Return the id of the last event that the client has; an empty one is none."""
    raw = request.headers.getlist("last-event-id")
    if len(raw) > 1:
        raise BadRequest(f"the header last-event-id is given {len(raw)} times: give it once")
    return raw[0] if raw and raw[0] else None
