"""The launcher's event handlers. They commute: a cancellation wins in either order."""

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from services.launcher.model import KnownLaunch
from services.launcher.pauses import latest_pause
from services.launcher.repeats import decide_repeat
from services.launcher.store import known_launches, launches
from services.launcher.store.charges import end_charges
from services.launcher.store.failed_boots import forget_failed_boots, note_failed_boots
from services.launcher.store.pauses import save_pause
from shared.events import cloudevents
from shared.events.cloudevents import Envelope
from shared.events.cost_tags import fitting
from shared.events.events import (
    AttemptEnded,
    InstanceRequested,
    InstanceTerminated,
    JobCancelled,
    LaunchesMissed,
    LaunchesPaused,
    LaunchesResumed,
)
from shared.log import get_logger
from shared.messaging.subscriber import Follows
from shared.postgres.pool import Transaction

REPEATED = 2000
"""Launches published again for the LaunchesMissed of one batch, at most: more are missed again."""


async def on_instance_requested(
    requested: Sequence[Envelope[InstanceRequested]], tx: Transaction
) -> Follows:
    """Add a launch for each attempt; publish again what is known of those that have one.

    The inbox drops a repeated event, so another one for a known launch asks again: the API has
    received nothing of it.
    """
    if await launches.add_launches(tx, [_with_fitting_tags(each) for each in requested]):
        return ()
    causes = {(each.body.job_id, each.body.attempt): each for each in requested}
    known = await known_launches.find_launches(tx, causes)
    return [
        again
        for launch in known
        for again in _repeat(launch, causes[launch.job_id, launch.attempt], tx)
    ]


async def on_launches_paused(
    changed: Sequence[Envelope[LaunchesPaused | LaunchesResumed]], tx: Transaction
) -> Follows:
    """Pause or resume launching: the event with the highest sequence holds, in any order.

    A resumption is a boot: the failed ones before may have been the fault that is mended.
    """
    resumed = [each.at for each in changed if isinstance(each.body, LaunchesResumed)]
    if resumed:
        await forget_failed_boots(tx, max(resumed))
    await save_pause(tx, latest_pause([each.body for each in changed]))
    return ()


def _with_fitting_tags(requested: Envelope[InstanceRequested]) -> Envelope[InstanceRequested]:
    """Leave tags off that AWS would refuse, of a job from before the API's setting had their name.

    They are for the bill alone, so they stop no launch.
    """
    wanted = requested.body.requirements
    tags = fitting(wanted.tags)
    if tags == wanted.tags:
        return requested
    get_logger(part="launches").warning(
        "labels that cannot be tags are left off the instance",
        job=requested.body.job_id,
        labels=sorted(wanted.tags.keys() - tags.keys()),
    )
    body = replace(requested.body, requirements=replace(wanted, tags=tags))
    return replace(requested, body=body)


async def on_launches_missed(
    missed: Sequence[Envelope[LaunchesMissed]], tx: Transaction
) -> Follows:
    """Publish the launches with these numbers again; the readers know what they have received."""
    repeated: list[Envelope[Any]] = []
    for each in missed:
        left = REPEATED - len(repeated)
        numbered = await known_launches.find_numbered(tx, each.body, left) if left > 0 else []
        repeated += [again for launch in numbered for again in _repeat(launch, each, tx)]
    return repeated


def _repeat(launch: KnownLaunch, cause: Envelope[Any], tx: Transaction) -> Follows:
    """Wrap the event that is published again of *launch*, under the launch's own trace."""
    event = decide_repeat(launch)
    if event is None:
        return ()
    trace = launch.trace or cause.trace
    return [cloudevents.wrap(event, source=tx.source, at=tx.now, trace=trace, cause=cause.id)]


async def on_instance_terminated(
    terminated: Sequence[Envelope[InstanceTerminated]], tx: Transaction
) -> Follows:
    """Free what the instances used of the quotas. Those of no attempt have used nothing of them."""
    await end_charges(tx, [each.body for each in terminated])
    return ()


async def on_job_cancelled(cancelled: Sequence[Envelope[JobCancelled]], tx: Transaction) -> Follows:
    """Cancel the launch; one under way is finished and published, and the reaper ends it."""
    await launches.give_up(tx, [(each.body.job_id, each.body.attempt) for each in cancelled])
    return ()


async def on_attempt_ended(ended: Sequence[Envelope[AttemptEnded]], tx: Transaction) -> Follows:
    """Cancel the launch, as on `JobCancelled`: the attempt needs no instance any more.

    If its instance did not boot, remember the pool, unless the fault is the account's.
    """
    failed = [each.body for each in ended if each.body.boot_failed]
    await note_failed_boots(tx, [each for each in failed if not each.account_fault])
    await launches.give_up(tx, [(each.body.job_id, each.body.attempt) for each in ended])
    return ()
