"""What the reaper does on each event. The handlers commute: each only adds what it has heard.

That an instance's attempt has ended is drawn from both rows by the sweep `terminate_ending`.
"""

from collections.abc import Sequence

from services.reaper.store import instances, strangers
from shared.consumer import Told
from shared.db import Transaction
from shared.events import AttemptEnded, Event, InstanceLaunched, LaunchesReported


async def on_instance_launched(told: Sequence[Told[InstanceLaunched]], tx: Transaction) -> None:
    """Watch over the instances, and count the tellings."""
    await instances.add_instances(tx, told)
    await strangers.hear_tellings(tx, [each.event.launch_sequence for each in told])


async def on_attempt_ended(told: Sequence[Told[AttemptEnded]], tx: Transaction) -> None:
    """Its instance is to end, the one that is known or the one that will be."""
    await instances.add_ended_attempts(tx, [each.event for each in told])


async def on_launches_reported(event: LaunchesReported, tx: Transaction) -> Sequence[Event]:
    """Keep the greatest watermark."""
    await strangers.raise_watermark(tx, event)
    return ()
