"""The single envelope of the release before batches: read for one release, never written.

    {"id": "…", "name": "JobScheduled", "version": 1, "at": "…Z", "cause": "…", "trace": "…",
    "body": {…}}

An upgrade finds it in outboxes, in queues and in parked rows. Delete this file with the release
after.
"""

import uuid
from typing import Any, Literal

import msgspec
from msgspec import Struct

from shared.events import events
from shared.events.events import Event, Timestamp
from shared.events.old_events import upgrade

SOURCE = "/docker-job"
"""The source of such an event: its envelope has no other."""


class _Sealed(Struct, frozen=True, kw_only=True):
    """The envelope as written: the body is still bytes, since its type depends on the name."""

    id: uuid.UUID
    name: str
    at: Timestamp
    trace: str
    body: msgspec.Raw
    cause: uuid.UUID | None = None
    version: Literal[1] = 1


class OldEnvelope(Struct, frozen=True, kw_only=True):
    """An event with the data of its envelope."""

    id: uuid.UUID
    name: str
    at: Timestamp
    trace: uuid.UUID
    body: Event
    cause: uuid.UUID | None
    subject: str | None


_decoder = msgspec.json.Decoder(_Sealed)
_bodies = msgspec.json.Decoder(dict[str, Any])


def decode(raw: bytes) -> OldEnvelope:
    """Decode an envelope. Raises msgspec's errors, and ValueError."""
    sealed = _decoder.decode(raw)
    kind = events.BY_NAME.get(sealed.name)
    if kind is None:
        raise ValueError(f"no event is named {sealed.name!r}")
    body = msgspec.convert(upgrade(sealed.name, _bodies.decode(sealed.body)), kind)
    job_id = getattr(body, "job_id", None)
    return OldEnvelope(
        id=sealed.id,
        name=sealed.name,
        at=sealed.at,
        trace=_as_uuid(sealed.trace),
        body=body,
        cause=sealed.cause,
        subject=None if job_id is None else str(job_id),
    )


def _as_uuid(trace: str) -> uuid.UUID:
    """Read the trace as a UUID; anything else gives another UUID, and the event is kept."""
    try:
        return uuid.UUID(trace)
    except ValueError:
        return uuid.uuid5(uuid.NAMESPACE_OID, trace)
