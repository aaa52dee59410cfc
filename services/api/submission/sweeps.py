"""The sweep over idempotency keys."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from services.api.submission import idempotency_store
from shared.postgres.pool import Database

BATCH = 1000
KEEP_KEYS = timedelta(days=7)


@dataclass(frozen=True)
class KeySweep:
    """Deletes the idempotency keys that are no longer honoured."""

    db: Database

    async def prune_keys(self) -> datetime | None:
        """Delete keys of a week ago, a batch at a time; return when to go on."""
        now = self.db.clock.now()
        async with self.db.connection() as conn:
            more = await idempotency_store.prune_keys(conn, now - KEEP_KEYS, BATCH)
        return now if more else None
