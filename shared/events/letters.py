"""The parts of the events about dead letters."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

LetterState = Literal["waiting", "dead"]
"""It is still retried, or no longer."""

LetterPlace = Literal["parked", "broker"]
"""A row of the service, or a message in the broker's `<service>.dead`."""


class ReportedLetter(Struct, frozen=True, kw_only=True):
    """An event that has not taken effect, or a message in the broker's dead queue.

    *event_id* is then the message's id, and *tries* is absent: no handler ran. *body* is the
    beginning of *body_bytes* bytes, without what looks like a secret.
    """

    event_id: str
    event: str
    place: LetterPlace
    state: LetterState
    error: str
    body: str
    body_bytes: int
    tries: int | None = None
    job_id: int | None = None
    since: Annotated[datetime, Meta(tz=True)] | None = None
