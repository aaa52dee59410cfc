"""The reaper's event handlers. They commute: each adds what it has received.

The later of an instance's launch and its attempt's end finds the other's row, and the instance is
to end. If both come at once, to two replicas, the sweep `watch_instances` finds the pair.
"""

from collections.abc import Sequence

from services.reaper.store import instances, terminations, unknown_instances
from shared.events.cloudevents import Envelope
from shared.events.events import AttemptEnded, InstanceLaunched, LaunchesReported
from shared.messaging.store import follow
from shared.messaging.subscriber import Follows
from shared.postgres.pool import Transaction


async def on_instance_launched(
    launched: Sequence[Envelope[InstanceLaunched]], tx: Transaction
) -> Follows:
    """Watch the instances, and record the launch sequences."""
    await instances.add_instances(tx, launched)
    await instances.end_instances_of(tx, [(e.body.job_id, e.body.attempt) for e in launched])
    await unknown_instances.add_received(tx, [each.body.launch_sequence for each in launched])
    return ()


async def on_attempt_ended(ended: Sequence[Envelope[AttemptEnded]], tx: Transaction) -> Follows:
    """End the attempt's instance, known already or later.

    The inbox drops a repeated event, so another one for a known end asks again: the API has not
    received that the instance is terminated.
    """
    known = await instances.add_ended_attempts(tx, [each.body for each in ended])
    await instances.end_instances_of(tx, [(e.body.job_id, e.body.attempt) for e in ended])
    if not known:
        return ()
    causes = {(each.body.job_id, each.body.attempt): each for each in ended}
    return [
        follow(causes[each.job_id, each.attempt], each, tx)
        for each in await terminations.find_terminations(tx, known)
        if each.job_id is not None and each.attempt is not None
    ]


async def on_launches_reported(
    reported: Sequence[Envelope[LaunchesReported]], tx: Transaction
) -> Follows:
    """Keep the greatest watermark."""
    greatest = max(
        (each.body for each in reported), key=lambda each: (each.before, each.launch_sequence)
    )
    await unknown_instances.raise_watermark(tx, greatest)
    return ()
