"""The scheduler's settings."""

from dataclasses import dataclass
from datetime import timedelta

from shared.messaging.retention import keep_dead, keep_settled_seconds
from shared.settings import Settings


@dataclass(frozen=True)
class SchedulerConfig:
    """Frozen settings; durations in seconds."""

    interval_seconds: float = 30
    """The longest pause between passes, so the lateness after a lost wake-up or a clock jump."""

    batch: int = 500
    """Timers fired in one transaction, at most."""

    keep_seconds: float = 7 * 86_400
    """How long settled timers are kept. A tombstone must outlive any event still on its way."""

    prune_batch: int = 5000

    keep_dead: timedelta | None = None
    """How long dead letters are kept; None: until they are dropped."""


def from_settings(settings: Settings) -> SchedulerConfig:
    """Read `DOCKER_JOB_SCHEDULER_…`. Raises `BadSetting`."""
    return SchedulerConfig(
        interval_seconds=settings.number("SCHEDULER_INTERVAL_SECONDS", 30, least=1),
        batch=settings.integer("SCHEDULER_BATCH", 500, least=1, most=5000),
        keep_seconds=keep_settled_seconds(settings),
        keep_dead=keep_dead(settings),
    )
