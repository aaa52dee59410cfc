"""The sweep that removes old entries of the audit trail."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from services.api.audit import store
from shared.postgres.pool import Database
from shared.settings import FOREVER, PREFIX, BadSetting, Settings

ENTRIES = 5000
"""Removed by one statement, at most."""

LEAST_DAYS = 30
"""The trigger of the table refuses to remove what is younger."""


def keep_audit_days(settings: Settings) -> int | None:
    """Read how long entries are kept; None: for ever. Raises `BadSetting`."""
    days = settings.days("KEEP_AUDIT_DAYS")
    if days is None or days == FOREVER:
        return None
    if days < LEAST_DAYS:
        raise BadSetting(
            f"{PREFIX}KEEP_AUDIT_DAYS is {days}: it must be at least {LEAST_DAYS}, or {FOREVER}"
        )
    return days


@dataclass(frozen=True)
class AuditSweep:
    """Removes entries after *keep_days*; None: they are kept."""

    db: Database
    keep_days: int | None

    async def prune_audit(self) -> datetime | None:
        """Remove one batch; return when to go on, None if none is left."""
        if self.keep_days is None:
            return None
        now = self.db.clock.now()
        async with self.db.connection() as conn:
            more = await store.prune_entries(conn, now - timedelta(days=self.keep_days), ENTRIES)
        return now if more else None
