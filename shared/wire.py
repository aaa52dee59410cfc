"""The envelope around every event, and its JSON.

    {"id": "…", "name": "JobScheduled", "version": 1, "at": "…Z", "cause": "…", "trace": "…",
    "body": {…}}

`cause` is the id of the event whose handling published this one; `trace` stays the same from the
request that began it all. Unknown fields are ignored; an unknown name or version is `Undecodable`.
"""

import uuid
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from shared import events
from shared.events import Event, Moment

VERSION = 1


class Undecodable(Exception):
    """The bytes are no event that this program knows. The message says why."""


_UNREADABLE = (
    msgspec.MsgspecError,
    ValueError,  # not a UUID, not UTF-8
    RecursionError,  # nested deeper than the decoder follows, in a field that nobody knows too
)


class Envelope(Struct, frozen=True, kw_only=True):
    """An event with what the transport needs to know of it."""

    id: str
    name: str
    at: Moment
    trace: str
    body: Event
    cause: str | None = None
    version: int = VERSION


class _Sealed(Struct, frozen=True, kw_only=True):
    """The envelope as read: the body is still bytes, since its type depends on the name."""

    id: str
    name: str
    at: Moment
    trace: str
    body: msgspec.Raw
    cause: str | None = None
    version: int = VERSION


_encoder = msgspec.json.Encoder()
_envelope_decoder = msgspec.json.Decoder(_Sealed)
_body_decoders: dict[str, msgspec.json.Decoder[Any]] = {
    name: msgspec.json.Decoder(kind) for name, kind in events.BY_NAME.items()
}


def new_id() -> str:
    """A fresh id for an event or a trace: a random UUID in its usual text form."""
    return str(uuid.uuid4())


def wrap(event: Event, *, at: datetime, trace: str, cause: str | None = None) -> Envelope:
    """Put *event* into a new envelope."""
    return Envelope(
        id=new_id(), name=type(event).__name__, at=at, trace=trace, cause=cause, body=event
    )


def encode(envelope: Envelope) -> bytes:
    """The envelope as JSON, in UTF-8."""
    return _encoder.encode(envelope)


def decode(raw: bytes) -> Envelope:
    """Read an envelope. Raises `Undecodable` with the reason."""
    try:
        sealed = _envelope_decoder.decode(raw)
        event_id = str(uuid.UUID(sealed.id))  # one spelling: the inbox compares text
    except _UNREADABLE as error:
        raise Undecodable(f"not an event envelope: {error}") from error
    if sealed.version != VERSION:
        raise Undecodable(f"{sealed.name!r} has version {sealed.version}, known is {VERSION}")
    decoder = _body_decoders.get(sealed.name)
    if decoder is None:
        raise Undecodable(f"no event is named {sealed.name!r}")
    try:
        body = decoder.decode(sealed.body)
    except _UNREADABLE as error:
        raise Undecodable(f"{sealed.name}: {error}") from error
    return Envelope(
        id=event_id,
        name=sealed.name,
        at=sealed.at,
        trace=sealed.trace,
        cause=sealed.cause,
        version=sealed.version,
        body=body,
    )
