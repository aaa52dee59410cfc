"""The scheduler's decisions. Pure: no clock, no I/O."""

from services.scheduler.model import Timer
from shared.events.events import InstanceRequested


def decide_request(timer: Timer) -> InstanceRequested:
    """Make the event of a due timer. `due_at` stays the requested time, however late it fires."""
    return InstanceRequested(
        job_id=timer.job_id,
        attempt=timer.attempt,
        due_at=timer.due_at,
        requirements=timer.requirements,
    )
