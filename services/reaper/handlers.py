"""What the reaper does on each event. The handlers commute: each only adds what it has heard.

That an instance's attempt has ended is drawn from both rows by the sweep `terminate_ending`.
"""

from collections.abc import Sequence

from services.reaper.store import instances, strangers
from shared.db import Transaction
from shared.events import AttemptEnded, Event, InstanceLaunched, LaunchesReported


async def on_instance_launched(event: InstanceLaunched, tx: Transaction) -> Sequence[Event]:
    """Watch over the instance, and count the telling."""
    await instances.add_instance(tx, event)
    await strangers.hear_telling(tx, event.told)
    return ()


async def on_attempt_ended(event: AttemptEnded, tx: Transaction) -> Sequence[Event]:
    """Its instance is to end, the one that is known or the one that will be."""
    await instances.add_ended_attempt(tx, event)
    return ()


async def on_launches_reported(event: LaunchesReported, tx: Transaction) -> Sequence[Event]:
    """Keep the greatest watermark."""
    await strangers.raise_watermark(tx, event)
    return ()
