"""The event that is published again of a launch, if nothing followed from the first. Pure."""

from datetime import timedelta

from msgspec import convert

from services.launcher.decisions import MESSAGES
from services.launcher.model import KnownLaunch
from shared.events.events import Event, InstanceLaunched, LaunchDelayed, LaunchRefused

UNKNOWN = "unknown"
"""Instance type and zone of a launch whose report an earlier release has not kept."""


def decide_repeat(launch: KnownLaunch) -> Event | None:
    """Return the latest event of *launch*, with the same content; None: there is nothing to say.

    A launch that waits without a reason is about to be asked for. A cancelled one concerns an
    attempt that has ended.
    """
    if launch.state == "launched":
        return _launched(launch)
    if launch.state == "refused":
        return _refused(launch)
    if launch.state == "cancelled" or launch.unwanted:
        return None
    if launch.reason is None or launch.due_at is None:
        return None
    return LaunchDelayed(
        job_id=launch.job_id,
        attempt=launch.attempt,
        reason=launch.reason,
        message=launch.last_error or MESSAGES[launch.reason],
        next_try_at=launch.due_at,
        to_change=launch.to_change,
        delayed_at=launch.delay_told_at,
    )


def _launched(launch: KnownLaunch) -> InstanceLaunched | None:
    if launch.report is not None:
        return convert(launch.report, InstanceLaunched)
    if (
        launch.params is None
        or launch.launch_token is None
        or launch.instance_id is None
        or launch.launched_at is None
        or launch.launch_sequence is None
    ):
        return None
    return InstanceLaunched(
        job_id=launch.job_id,
        attempt=launch.attempt,
        launch_token=launch.launch_token,
        instance_id=launch.instance_id,
        instance_type=UNKNOWN,
        zone=UNKNOWN,
        market=launch.params.market,
        hourly_price_usd=None,
        launched_at=launch.launched_at,
        dies_by=launch.launched_at + timedelta(seconds=launch.params.max_lifetime_seconds),
        launch_sequence=launch.launch_sequence,
    )


def _refused(launch: KnownLaunch) -> LaunchRefused:
    if launch.report is not None:
        return convert(launch.report, LaunchRefused)
    message = launch.last_error or "the launch was refused"
    return LaunchRefused(job_id=launch.job_id, attempt=launch.attempt, message=message)
