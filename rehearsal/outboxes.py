"""The events that the services have published, read from their outboxes."""

from datetime import datetime

from msgspec import Struct

from operations.wiring import SERVICES
from shared.events import cloudevents
from shared.events.events import Event, LaunchesReported
from shared.postgres.pool import connect

OUTBOX = "SELECT name, body FROM {schema}.outbox ORDER BY id"


class PublishedEvent(Struct, frozen=True, kw_only=True):
    """One event, with its time and its service."""

    at: datetime
    by: str
    event: Event


async def read_outboxes(admin_dsn: str) -> list[PublishedEvent]:
    """Read all events in the order of their times, without the launcher's watermarks."""
    events: list[PublishedEvent] = []
    conn = await connect(admin_dsn)
    try:
        for service in SERVICES:
            for row in await conn.fetch(OUTBOX.format(schema=service.NAME)):
                events += [
                    PublishedEvent(at=each.at, by=service.NAME, event=each.body)
                    for each in cloudevents.decode(row["name"], row["body"]).envelopes
                    if not isinstance(each.body, LaunchesReported)
                ]
    finally:
        await conn.close()
    return sorted(events, key=lambda each: each.at)
