"""What the launcher does on each event. The handlers commute: a cancellation wins either way."""

from collections.abc import Sequence

from services.launcher import store
from shared.db import Transaction
from shared.events import AttemptEnded, Event, InstanceRequested, JobCancelled


async def on_instance_requested(event: InstanceRequested, tx: Transaction) -> Sequence[Event]:
    """Want an instance for the attempt."""
    await store.add_launch(tx, event)
    return ()


async def on_job_cancelled(event: JobCancelled, tx: Transaction) -> Sequence[Event]:
    """Launch nothing more for it; a launch under way is finished, told, and ended by the reaper."""
    await store.give_up(tx, event.job_id, event.attempt)
    return ()


async def on_attempt_ended(event: AttemptEnded, tx: Transaction) -> Sequence[Event]:
    """As `on_job_cancelled`: whatever it ended for, it needs no instance any more."""
    await store.give_up(tx, event.job_id, event.attempt)
    return ()
