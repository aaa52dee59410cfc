"""The launcher's event handlers. They commute: a cancellation wins in either order."""

from collections.abc import Sequence

from services.launcher.store import launches
from shared.events.cloudevents import Envelope
from shared.events.events import AttemptEnded, InstanceRequested, JobCancelled
from shared.messaging.subscriber import Follows
from shared.postgres.pool import Transaction


async def on_instance_requested(
    requested: Sequence[Envelope[InstanceRequested]], tx: Transaction
) -> Follows:
    """Add a launch for each attempt."""
    await launches.add_launches(tx, requested)
    return ()


async def on_job_cancelled(cancelled: Sequence[Envelope[JobCancelled]], tx: Transaction) -> Follows:
    """Cancel the launch; one under way is finished and published, and the reaper ends it."""
    await launches.give_up(tx, [(each.body.job_id, each.body.attempt) for each in cancelled])
    return ()


async def on_attempt_ended(ended: Sequence[Envelope[AttemptEnded]], tx: Transaction) -> Follows:
    """Cancel the launch, as on `JobCancelled`: the attempt needs no instance any more."""
    await launches.give_up(tx, [(each.body.job_id, each.body.attempt) for each in ended])
    return ()
