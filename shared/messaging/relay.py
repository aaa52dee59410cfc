"""The outbox relay: a sweep that publishes committed events and marks those confirmed.

Killed between publish and mark, it publishes again; the readers' inboxes drop the repeat. It pages
by lease, never by "id greater than last": rows commit in another order than that of their ids.
"""

import asyncio
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.bus.port import Bus, BusUnavailable
from shared.crash_points import Points
from shared.messaging import store as messages
from shared.postgres.pool import Database

BATCH = 50
"""Messages published with confirms in flight together: up to 12,500 events."""

LEASE_SECONDS = 30.0
PUBLISH_SECONDS = 20.0
"""The time limit of a publish, well within its lease; then its outcome is unknown."""

KEEP = timedelta(days=1)
"""How long published and handled events are kept, far longer than any event is on its way."""

PRUNE_BATCH = 5000


@dataclass(frozen=True)
class Relay:
    """The relay of one service's outbox to the bus."""

    db: Database
    bus: Bus
    points: Points

    async def relay_outbox(self) -> datetime | None:
        """Publish what is unpublished, oldest first; due again at once while there is more."""
        now = self.db.clock.now()
        token = uuid.uuid4()
        async with self.db.connection() as conn:
            until = now + timedelta(seconds=LEASE_SECONDS)
            batch = await messages.lease_outbox(
                conn, now=now, until=until, token=token, limit=BATCH
            )
        if not batch:
            return None
        try:
            async with asyncio.timeout(PUBLISH_SECONDS):
                await self.bus.publish([each.message for each in batch])
        except (TimeoutError, BusUnavailable) as error:
            async with self.db.connection() as conn:
                await messages.release_outbox(conn, [each.id for each in batch], token)
            raise BusUnavailable(f"{len(batch)} messages not confirmed: {error}") from error
        self.points.reached("relay.published")
        async with self.db.connection() as conn:
            await messages.mark_published(conn, [each.id for each in batch], now)
        self.points.reached("relay.marked")
        return now if len(batch) == BATCH else None

    async def prune_trace(self) -> datetime | None:
        """Delete events that were published or handled long ago."""
        now = self.db.clock.now()
        async with self.db.connection() as conn:
            more = await messages.prune(conn, now - KEEP, PRUNE_BATCH)
        return now if more else None
