"""What the reaper does on each event. The handlers commute: each adds what it has heard.

Whichever comes last of an instance's launch and its attempt's end finds the other's row, and the
instance is to end. Where both come at once, to two replicas, the sweep `watch_instances` finds the
pair.
"""

from collections.abc import Sequence

from services.reaper.store import instances, unknown_instances
from shared.events.cloudevents import Envelope
from shared.events.events import AttemptEnded, InstanceLaunched, LaunchesReported
from shared.messaging.subscriber import Follows
from shared.postgres.pool import Transaction


async def on_instance_launched(
    launched: Sequence[Envelope[InstanceLaunched]], tx: Transaction
) -> Follows:
    """Watch over the instances, and count the launches."""
    await instances.add_instances(tx, launched)
    await instances.end_instances_of(tx, [(e.body.job_id, e.body.attempt) for e in launched])
    await unknown_instances.hear_tellings(tx, [each.body.launch_sequence for each in launched])
    return ()


async def on_attempt_ended(ended: Sequence[Envelope[AttemptEnded]], tx: Transaction) -> Follows:
    """Its instance is to end, the one that is known or the one that will be."""
    await instances.add_ended_attempts(tx, [each.body for each in ended])
    await instances.end_instances_of(tx, [(e.body.job_id, e.body.attempt) for e in ended])
    return ()


async def on_launches_reported(
    reported: Sequence[Envelope[LaunchesReported]], tx: Transaction
) -> Follows:
    """Keep the greatest watermark."""
    greatest = max(
        (each.body for each in reported), key=lambda each: (each.before, each.launch_sequence)
    )
    await unknown_instances.raise_watermark(tx, greatest)
    return ()
