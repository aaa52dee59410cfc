"""What the launcher does on each event. The handlers commute: a cancellation wins either way."""

from collections.abc import Sequence

from services.launcher import store
from shared.consumer import Told
from shared.db import Transaction
from shared.events import AttemptEnded, InstanceRequested, JobCancelled


async def on_instance_requested(told: Sequence[Told[InstanceRequested]], tx: Transaction) -> None:
    """Want an instance for each attempt."""
    await store.add_launches(tx, told)


async def on_job_cancelled(told: Sequence[Told[JobCancelled]], tx: Transaction) -> None:
    """Launch nothing more for it; a launch under way is finished, told, and ended by the reaper."""
    await store.give_up(tx, [(each.event.job_id, each.event.attempt) for each in told])


async def on_attempt_ended(told: Sequence[Told[AttemptEnded]], tx: Transaction) -> None:
    """As `on_job_cancelled`: whatever it ended for, it needs no instance any more."""
    await store.give_up(tx, [(each.event.job_id, each.event.attempt) for each in told])
