"""What the launcher does on each event. The handlers commute: a cancellation wins either way."""

from collections.abc import Sequence

from services.launcher import store
from shared.events.cloudevents import Envelope
from shared.events.events import AttemptEnded, InstanceRequested, JobCancelled
from shared.messaging.subscriber import Follows
from shared.postgres.pool import Transaction


async def on_instance_requested(
    requested: Sequence[Envelope[InstanceRequested]], tx: Transaction
) -> Follows:
    """Want an instance for each attempt."""
    await store.add_launches(tx, requested)
    return ()


async def on_job_cancelled(cancelled: Sequence[Envelope[JobCancelled]], tx: Transaction) -> Follows:
    """Launch nothing more for it; a launch under way is finished, told, and ended by the reaper."""
    await store.give_up(tx, [(each.body.job_id, each.body.attempt) for each in cancelled])
    return ()


async def on_attempt_ended(ended: Sequence[Envelope[AttemptEnded]], tx: Transaction) -> Follows:
    """As `on_job_cancelled`: whatever it ended for, it needs no instance any more."""
    await store.give_up(tx, [(each.body.job_id, each.body.attempt) for each in ended])
    return ()
