"""The scheduler's event handlers. They commute: a cancellation wins in either order."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from services.scheduler import store
from shared.events.cloudevents import Envelope
from shared.events.events import JobCancelled, JobScheduled
from shared.messaging.subscriber import Follows
from shared.postgres.pool import Transaction

FIRE = "fire_due"
"""The sweep that fires timers."""


@dataclass(frozen=True)
class TimerHandlers:
    """One method per event. The sweep runs every *interval_seconds* at least."""

    interval_seconds: float

    async def on_job_scheduled(
        self, scheduled: Sequence[Envelope[JobScheduled]], tx: Transaction
    ) -> Follows:
        """Set the attempts' timers."""
        await store.add_timers(tx, scheduled)
        # The sweep's own passes find timers that are due later. Twice the interval, since a pass
        # that begins before this commit does not see them.
        soon = tx.now + timedelta(seconds=2 * self.interval_seconds)
        if any(each.body.due_at <= soon for each in scheduled):
            tx.wakes.add(FIRE)
        return ()

    async def on_job_cancelled(
        self, cancelled: Sequence[Envelope[JobCancelled]], tx: Transaction
    ) -> Follows:
        """Cancel the attempts' timers. If one has fired, the launcher cancels its launch."""
        await store.cancel_timers(tx, {(each.body.job_id, each.body.attempt) for each in cancelled})
        return ()
