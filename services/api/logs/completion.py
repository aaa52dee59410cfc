"""The completion of a log: no further line of it can come. Pure."""

from collections.abc import Sequence
from datetime import datetime

from services.api.jobs.endings import may_add
from services.api.jobs.model import TERMINAL, Attempt, Job


def is_complete(
    job: Job, attempts: Sequence[Attempt], now: datetime, only: int | None = None
) -> bool:
    """Return whether no further line of the job, or of its attempt *only*, is taken.

    Of a job that was cancelled or timed out, lines are taken until its container is known to have
    stopped: at the latest until stop and grace are over.
    """
    read = [each for each in attempts if only in (None, each.number)]
    picked_over = only is not None and all(each.state == "ended" for each in read)
    if job.status not in TERMINAL and not picked_over:
        return False
    return not any(may_add(each, now) and not each.container_stopped for each in read)
