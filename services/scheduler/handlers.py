"""What the scheduler does on each event. The handlers commute: a cancellation wins either way."""

from collections.abc import Sequence

from services.scheduler import store
from shared.consumer import Told
from shared.db import Transaction
from shared.events import Event, JobCancelled, JobScheduled


async def on_job_scheduled(told: Sequence[Told[JobScheduled]], tx: Transaction) -> None:
    """Set the attempts' timers."""
    await store.add_timers(tx, told)


async def on_job_cancelled(event: JobCancelled, tx: Transaction) -> Sequence[Event]:
    """Stop the attempt's timer. One that has fired is the launcher's, which hears of this too."""
    await store.cancel_timer(tx, event.job_id, event.attempt)
    return ()
