"""What the scheduler decides. Pure: no clock, no I/O."""

from services.scheduler.model import Timer
from shared.events.events import InstanceRequested


def decide_request(timer: Timer) -> InstanceRequested:
    """What a due timer says. `due_at` stays the time asked for, however late the timer fires."""
    return InstanceRequested(
        job_id=timer.job_id,
        attempt=timer.attempt,
        due_at=timer.due_at,
        requirements=timer.requirements,
    )
