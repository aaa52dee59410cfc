"""Events as JSON: CloudEvents 1.0 in the JSON batch format, one message a batch.

    [{"specversion": "1.0", "id": "…", "source": "/docker-job/<deployment>/<service>",
      "type": "JobScheduled", "subject": "<job id>", "time": "…Z", "data": {…},
      "traceparent": "00-<trace>-<span>-01", "causationid": "…"}, …]

All events of a batch have one `type`, which is the message's name. `causationid` is the id of the
event whose handling published this one; all events that follow from one request share its trace.
Unknown fields are ignored.
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
"""

import contextlib
import os
import random
import time
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from shared.events import events, old_envelope
from shared.events.events import Event, Timestamp

CONTENT_TYPE = "application/cloudevents-batch+json"
"""The media type of a message's body."""

E = TypeVar("E", bound=Event, covariant=True)  # noqa: PLC0105 - msgspec shows the name to nobody

Text = Annotated[str, Meta(min_length=1)]
Traceparent = Annotated[str, Meta(pattern="^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")]
"""https://www.w3.org/TR/trace-context/#traceparent-header"""


class Undecodable(Exception):
    """The bytes are no event that this program knows. The message gives the reason."""


UNREADABLE = (
    msgspec.MsgspecError,
    ValueError,  # not UTF-8
    RecursionError,  # nested deeper than the decoder follows, even in an unknown field
)
"""The exceptions that decoding foreign bytes may raise."""


class Envelope(
    Struct,
    Generic[E],
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={"name": "type", "at": "time", "body": "data", "cause": "causationid"},
):
    """An event with its transport data: one CloudEvent."""

    specversion: Literal["1.0"]
    id: uuid.UUID
    source: Text
    name: str
    at: Timestamp
    traceparent: Traceparent
    body: E
    subject: str | None = None
    cause: uuid.UUID | None = None

    @property
    def trace(self) -> str:
        """Return the trace that all events of one request share: 32 hexadecimal digits."""
        return self.traceparent[3:35]


class Unreadable(Struct, frozen=True):
    """An element of a batch that is no event, as it came, and the reason."""

    raw: bytes
    reason: str
    event_id: uuid.UUID | None


class EventBatch(Struct, frozen=True):
    """The contents of a message."""

    envelopes: Sequence[Envelope[Any]]
    unreadable: Sequence[Unreadable] = ()


class _Identified(Struct, frozen=True):
    id: uuid.UUID


_encoder = msgspec.json.Encoder()
_elements = msgspec.json.Decoder(list[msgspec.Raw])
_identity = msgspec.json.Decoder(_Identified)
_batches: dict[str, msgspec.json.Decoder[Any]] = {
    name: msgspec.json.Decoder(list[Envelope[kind]])  # type: ignore[valid-type]
    for name, kind in events.BY_NAME.items()
}
_singles: dict[str, msgspec.json.Decoder[Any]] = {
    name: msgspec.json.Decoder(Envelope[kind])  # type: ignore[valid-type]
    for name, kind in events.BY_NAME.items()
}


# Ids need only be unique, and the system's randomness would cost a call for each.
_random = random.Random()
os.register_at_fork(after_in_child=_random.seed)


def new_uuid() -> uuid.UUID:
    """Make a UUID of version 7 (RFC 9562): the time, then random bits.

    An index appends it at its end, where a random one goes anywhere.
    """
    bits = _random.getrandbits(74)
    milliseconds = time.time_ns() // 1_000_000
    return uuid.UUID(int=milliseconds << 80 | 7 << 76 | bits >> 62 << 64 | 2 << 62 | bits & _LOW)


_LOW = (1 << 62) - 1
_SPAN = (1 << 64) - 1


def new_id() -> str:
    """Make a UUID in its usual text form."""
    return str(new_uuid())


def new_trace() -> str:
    """Make a trace: 32 hexadecimal digits, never all zero."""
    return f"{_random.getrandbits(128) or 1:032x}"


def wrap(
    event: Event, *, source: str, at: datetime, trace: str, cause: uuid.UUID | None = None
) -> Envelope[Any]:
    """Put *event* into a new envelope. A trace may be a UUID too, as earlier releases kept it."""
    event_id = new_uuid()
    job_id = getattr(event, "job_id", None)
    return Envelope(
        specversion="1.0",
        id=event_id,
        source=source,
        name=type(event).__name__,
        at=at,
        traceparent=f"00-{trace.replace('-', '')}-{event_id.int & _SPAN:016x}-01",
        body=event,
        subject=None if job_id is None else str(job_id),
        cause=cause,
    )


def encode(envelopes: Sequence[Envelope[Any]]) -> bytes:
    """Encode a batch, all of one name, as JSON in UTF-8."""
    return _encoder.encode(envelopes)


def decode(name: str, raw: bytes) -> EventBatch:
    """Read the batch of a message that is named *name*.

    Raises `Undecodable` if it is no batch at all. Elements of a batch that are no such event are
    returned as unreadable beside those that are.
    """
    if raw.startswith(b"{"):
        return EventBatch([_decode_old(name, raw)])
    if name not in _batches:
        raise Undecodable(f"no event is named {name!r}")
    with contextlib.suppress(*UNREADABLE):
        envelopes: list[Envelope[Any]] = _batches[name].decode(raw)
        if all(each.name == name for each in envelopes):
            return EventBatch(envelopes)
    return _decode_singly(name, raw)


def decode_one(name: str, raw: bytes) -> Envelope[Any]:
    """Read the one event of *raw*. Raises `Undecodable` if it holds anything else."""
    batch = decode(name, raw)
    if batch.unreadable:
        raise Undecodable(batch.unreadable[0].reason)
    if len(batch.envelopes) != 1:
        raise Undecodable(f"{name}: {len(batch.envelopes)} events where one is expected")
    return batch.envelopes[0]


def _decode_singly(name: str, raw: bytes) -> EventBatch:
    try:
        elements = _elements.decode(raw)
    except UNREADABLE as error:
        raise Undecodable(f"not a batch of events: {error}") from error
    readable: list[Envelope[Any]] = []
    unreadable: list[Unreadable] = []
    for element in elements:
        try:
            envelope: Envelope[Any] = _singles[name].decode(element)
            if envelope.name != name:
                raise ValueError(f"its type is {envelope.name!r}, its message's {name!r}")
            readable.append(envelope)
        except UNREADABLE as error:
            unreadable.append(Unreadable(bytes(element), f"{name}: {error}", _id_of(element)))
    return EventBatch(readable, unreadable)


def _id_of(element: msgspec.Raw) -> uuid.UUID | None:
    with contextlib.suppress(*UNREADABLE):
        return _identity.decode(element).id
    return None


def _decode_old(name: str, raw: bytes) -> Envelope[Any]:
    """Read an envelope of the last release, which may still be in outboxes and queues."""
    try:
        old = old_envelope.decode(raw)
        if old.name != name:
            raise ValueError(f"its name is {old.name!r}, its message's {name!r}")
    except UNREADABLE as error:
        raise Undecodable(f"not an event envelope: {error}") from error
    return Envelope(
        specversion="1.0",
        id=old.id,
        source=old_envelope.SOURCE,
        name=old.name,
        at=old.at,
        traceparent=f"00-{old.trace.hex}-{old.id.int & _SPAN:016x}-01",
        body=old.body,
        subject=old.subject,
        cause=old.cause,
    )
