"""The scheduler's event handlers. They commute: a cancellation wins in either order."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from services.scheduler import store
from services.scheduler.decisions import decide_request
from shared.events.cloudevents import Envelope
from shared.events.events import JobCancelled, JobScheduled
from shared.messaging.store import follow
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
        """Set the attempts' timers; publish again the requests of those that have fired.

        The inbox drops a repeated event, so another one for a fired timer asks again: the API has
        received no launch. A timer that waits will fire, one that is cancelled must not.
        """
        known = not await store.add_timers(tx, scheduled)
        # The sweep's own passes find timers that are due later. Twice the interval, since a pass
        # that begins before this commit does not see them.
        soon = tx.now + timedelta(seconds=2 * self.interval_seconds)
        if any(each.body.due_at <= soon for each in scheduled):
            tx.wakes.add(FIRE)
        return await self._request_again(scheduled, tx) if known else ()

    async def _request_again(
        self, scheduled: Sequence[Envelope[JobScheduled]], tx: Transaction
    ) -> Follows:
        causes = {(each.body.job_id, each.body.attempt): each for each in scheduled}
        return [
            follow(causes[timer.job_id, timer.attempt], decide_request(timer), tx)
            for timer in await store.fired_among(tx, causes)
        ]

    async def on_job_cancelled(
        self, cancelled: Sequence[Envelope[JobCancelled]], tx: Transaction
    ) -> Follows:
        """Cancel the attempts' timers. If one has fired, the launcher cancels its launch."""
        await store.cancel_timers(tx, {(each.body.job_id, each.body.attempt) for each in cancelled})
        return ()
