"""Messages as the services write them, and the events that stand in an outbox."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from shared.bus.port import Message
from shared.events import cloudevents
from shared.events.cloudevents import Envelope
from shared.events.events import Event
from shared.messaging import store as messages

SOURCE = "/docker-job/test/tester"
TRACE = "0af7651916cd43dd8448eb211c80319c"
AT = datetime(2026, 1, 1, tzinfo=UTC)


def wrapped(event: Event, *, at: datetime = AT, trace: str = TRACE) -> Envelope[Any]:
    """*event* in an envelope."""
    return cloudevents.wrap(event, source=SOURCE, at=at, trace=trace)


def as_message(envelope: Envelope[Any]) -> Message:
    """Make a message of this event alone; its id is the event's, so that a test can find it."""
    return Message(name=envelope.name, id=str(envelope.id), body=cloudevents.encode([envelope]))


def as_messages(envelopes: Sequence[Envelope[Any]]) -> list[Message]:
    """Pack *envelopes* into batches."""
    return messages.pack(envelopes)


def events_in(rows: Iterable[Mapping[str, Any]]) -> list[Envelope[Any]]:
    """All events in *rows*, which have `name` and `body`, in order."""
    found: list[Envelope[Any]] = []
    for row in rows:
        batch = cloudevents.decode(row["name"], row["body"])
        assert not batch.unreadable, batch.unreadable
        found += batch.envelopes
    return found
