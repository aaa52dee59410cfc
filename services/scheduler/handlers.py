"""What the scheduler does on each event. The handlers commute: a cancellation wins either way."""

from collections.abc import Sequence

from services.scheduler import store
from shared.db import Transaction
from shared.events import JobCancelled, JobScheduled
from shared.subscriber import Follows
from shared.wire import Envelope


async def on_job_scheduled(scheduled: Sequence[Envelope[JobScheduled]], tx: Transaction) -> Follows:
    """Set the attempts' timers."""
    await store.add_timers(tx, scheduled)
    return ()


async def on_job_cancelled(cancelled: Sequence[Envelope[JobCancelled]], tx: Transaction) -> Follows:
    """Stop the attempts' timers. One that has fired is the launcher's, which hears of this too."""
    await store.cancel_timers(tx, {(each.body.job_id, each.body.attempt) for each in cancelled})
    return ()
