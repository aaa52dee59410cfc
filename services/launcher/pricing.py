"""The sweep that publishes what can be launched and at which price.

    claim the one row ─▶ read the cloud ─▶ publish under the lease's token

Prices age slowly, and each reading costs some ten calls: so the replicas share it, and a failure is
repeated later each time, while the offers that were published last hold. Killed in between, it is
due again when its lease ends; published twice, the later version holds.
"""

import random
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.launcher.config import LauncherConfig
from services.launcher.store import pricing
from shared.backoff import Backoff
from shared.compute.port import Compute, ComputeError, PricedOffers
from shared.compute.timeouts import answer_within
from shared.events.cloudevents import new_id
from shared.events.events import OffersPriced
from shared.log import get_logger
from shared.messaging.store import publish
from shared.runtime.service import Ports

_log = get_logger(service="launcher", part="pricing")

TYPES = 200
"""Types in one event, at most: some 60 kB."""

READ_SECONDS = 120.0
LEASE_SECONDS = 180.0
RETRY = Backoff(first=30, factor=2, longest=1800)

START_SECONDS = 60.0
"""A process that starts, perhaps with other settings, publishes again what is older than this."""


@dataclass(frozen=True)
class PriceSweep:
    """The sweep over the offers. *jitter* gives numbers in [0, 1)."""

    config: LauncherConfig
    ports: Ports
    compute: Compute
    jitter: Callable[[], float] = random.random
    begun: list[uuid.UUID] = field(default_factory=list)
    """The last reading that this process has begun; empty before the first."""

    async def publish_offers(self) -> datetime | None:
        """Read the offers and publish them, if that is due; return when it is next."""
        token = uuid.uuid4()
        tries = await self._claim(token)
        if tries is not None:
            await self._read_and_publish(token, tries)
        async with self.ports.db.connection() as conn:
            return await pricing.next_pricing(conn)

    async def _claim(self, token: uuid.UUID) -> int | None:
        async with self.ports.db.transaction() as tx:
            before = None if self.begun else tx.now - timedelta(seconds=START_SECONDS)
            until = tx.now + timedelta(seconds=LEASE_SECONDS)
            tries = await pricing.claim_pricing(tx, until, token, before)
        self.begun[:] = [token]
        return tries

    async def _read_and_publish(self, token: uuid.UUID, tries: int) -> None:
        try:
            found = await answer_within(READ_SECONDS, self.compute.price_offers())
        except ComputeError as error:
            _log.warning("no prices: those that were published last hold", error=str(error))
            await self._postpone(token, tries + 1)
            return
        async with self.ports.db.transaction() as tx:
            due_at = tx.now + timedelta(seconds=self.config.offers_seconds)
            if await pricing.settle_pricing(tx, token, due_at, priced_at=tx.now, tries=0):
                await publish(tx, decide_events(found, new_id(), tx.now))
        self.ports.wakeups.wake("relay_outbox")

    async def _postpone(self, token: uuid.UUID, tries: int) -> None:
        async with self.ports.db.transaction() as tx:
            due_at = tx.now + timedelta(seconds=RETRY.delay(tries, self.jitter()))
            await pricing.settle_pricing(tx, token, due_at, priced_at=None, tries=tries)


def decide_events(
    found: PricedOffers, version: str, now: datetime, most: int = TYPES
) -> Sequence[OffersPriced]:
    """Return the events of one version, with at most so many types each; at least one event."""
    starts = range(0, len(found.types), most) or range(1)
    return [
        OffersPriced(
            version=version,
            part=part,
            parts=len(starts),
            priced_at=now,
            terms=found.terms,
            types=found.types[start : start + most],
        )
        for part, start in enumerate(starts, start=1)
    ]
