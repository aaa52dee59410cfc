"""What happened, from the events that the services themselves have told: their outboxes."""

from datetime import datetime

from msgspec import Struct

from services.migrate import SERVICES
from shared import wire
from shared.db import connect
from shared.events import Event, LaunchesReported

OUTBOX = "SELECT body FROM {schema}.outbox ORDER BY id"


class Told(Struct, frozen=True, kw_only=True):
    """One event, and which service told it when."""

    at: datetime
    by: str
    event: Event


async def read_told(admin_dsn: str) -> list[Told]:
    """All events in the order of their times, the launcher's watermarks apart."""
    told: list[Told] = []
    conn = await connect(admin_dsn)
    try:
        for service in SERVICES:
            for row in await conn.fetch(OUTBOX.format(schema=service.NAME)):
                envelope = wire.decode(row["body"])
                if not isinstance(envelope.body, LaunchesReported):
                    told.append(Told(at=envelope.at, by=service.NAME, event=envelope.body))
    finally:
        await conn.close()
    return sorted(told, key=lambda each: each.at)
