"""The outbox relay: a sweep that publishes committed events and marks those confirmed.

A message that the broker does not take, though it answers, is tried again with growing delay; the
others go on. If the broker does not answer, all are tried again at the next pass.

Killed between publish and mark, it publishes again; the readers' inboxes drop the repeat. It pages
by lease, never by "id greater than last": rows commit in another order than that of their ids.
"""

import asyncio
import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from shared.backoff import UNCONFIRMED
from shared.bus.port import Bus, BusUnavailable
from shared.crash_points import Points
from shared.log import get_logger
from shared.messaging import store as messages
from shared.messaging.store import Outgoing
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
    jitter: Callable[[], float] = random.random

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
        unconfirmed = await self._publish(batch, token)
        confirmed = [each.id for each in batch if each.message.id not in unconfirmed]
        self.points.reached("relay.published")
        async with self.db.connection() as conn:
            await messages.mark_published(conn, confirmed, now)
        self.points.reached("relay.marked")
        if unconfirmed:
            await self._postpone(batch, unconfirmed, token)
        return now if len(batch) == BATCH else None

    async def _publish(self, batch: Sequence[Outgoing], token: uuid.UUID) -> Mapping[str, str]:
        """Publish *batch*; return why, by the id of each message that is not confirmed."""
        try:
            async with asyncio.timeout(PUBLISH_SECONDS):
                return await self.bus.publish([each.message for each in batch])
        except (TimeoutError, BusUnavailable) as error:
            async with self.db.connection() as conn:
                await messages.release_outbox(conn, [each.id for each in batch], token)
            raise BusUnavailable(f"{len(batch)} messages not confirmed: {error}") from error

    async def _postpone(
        self, batch: Sequence[Outgoing], unconfirmed: Mapping[str, str], token: uuid.UUID
    ) -> None:
        """Try these later, each with a growing delay: they hold up no other."""
        now = self.db.clock.now()
        left = [each for each in batch if each.message.id in unconfirmed]
        due_at = {
            each.id: now + timedelta(seconds=UNCONFIRMED.delay(each.tries + 1, self.jitter()))
            for each in left
        }
        async with self.db.connection() as conn:
            await messages.postpone_outbox(conn, due_at, token)
        for because in sorted(set(unconfirmed.values())):
            those = [each for each in left if unconfirmed[each.message.id] == because]
            self._log.error(
                "events not published: they stay in the outbox",
                names=sorted({each.message.name for each in those}),
                messages=len(those),
                because=because,
                next_try_at=min(due_at[each.id] for each in those).isoformat(),
            )

    async def prune_trace(self) -> datetime | None:
        """Delete events that were published or handled long ago."""
        now = self.db.clock.now()
        async with self.db.connection() as conn:
            more = await messages.prune(conn, now - KEEP, PRUNE_BATCH)
        return now if more else None

    @property
    def _log(self) -> Any:
        return get_logger(service=self.db.schema, part="relay")
