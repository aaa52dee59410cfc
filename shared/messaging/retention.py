"""Retention of what every service keeps: settled rows, and dead letters."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.log import get_logger
from shared.messaging import parked
from shared.postgres.pool import Database
from shared.settings import MOST_DAYS, Settings

PRUNE_BATCH = 1000


def keep_dead(settings: Settings) -> timedelta | None:
    """Read `DOCKER_JOB_KEEP_DEAD_LETTERS_DAYS`; None: forever. Raises `BadSetting`."""
    days = settings.days("KEEP_DEAD_LETTERS_DAYS")
    return timedelta(days=days) if isinstance(days, int) else None


def keep_settled_seconds(settings: Settings) -> float:
    """Read `DOCKER_JOB_KEEP_SETTLED_DAYS`: of timers, launches, instances. Raises `BadSetting`.

    A week by default: a tombstone must outlive any event that is still on its way.
    """
    return timedelta(
        days=settings.integer("KEEP_SETTLED_DAYS", 7, least=2, most=MOST_DAYS)
    ).total_seconds()


@dataclass(frozen=True)
class DeadLetterSweep:
    """The sweep over dead events of one service."""

    db: Database
    keep: timedelta

    async def prune_dead(self) -> datetime | None:
        """Delete what was parked before the setting's days, and is dead."""
        now = self.db.clock.now()
        async with self.db.connection() as conn:
            removed = await parked.prune_dead(conn, now - self.keep, PRUNE_BATCH)
        if removed:
            get_logger(service=self.db.schema, part="retention").warning(
                "dead letters removed", events=removed, older_than_days=self.keep.days
            )
        return now if removed == PRUNE_BATCH else None
