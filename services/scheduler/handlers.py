"""What the scheduler does on each event. The handlers commute: a cancellation wins either way."""

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
    """One method an event. The sweep looks at the timers each *interval_seconds* at least."""

    interval_seconds: float

    async def on_job_scheduled(
        self, scheduled: Sequence[Envelope[JobScheduled]], tx: Transaction
    ) -> Follows:
        """Set the attempts' timers."""
        await store.add_timers(tx, scheduled)
        # What is due later is found by the sweep's own next pass: twice the interval, since a pass
        # that begins before this commits does not see it.
        soon = tx.now + timedelta(seconds=2 * self.interval_seconds)
        if any(each.body.due_at <= soon for each in scheduled):
            tx.wakes.add(FIRE)
        return ()

    async def on_job_cancelled(
        self, cancelled: Sequence[Envelope[JobCancelled]], tx: Transaction
    ) -> Follows:
        """Stop the attempts' timers. What has fired is the launcher's, which hears of this too."""
        await store.cancel_timers(tx, {(each.body.job_id, each.body.attempt) for each in cancelled})
        return ()
