"""The completion of a log: no further line of it can come. Pure."""

from collections.abc import Sequence
from datetime import datetime

from services.api.jobs.endings import may_add
from services.api.jobs.model import TERMINAL, Attempt, Job


def completes_at(
    job: Job, attempts: Sequence[Attempt], now: datetime, only: int | None = None
) -> datetime | None:
    """Return when no further line of the job, or of its attempt *only*, will be taken any more.

    It is *now* if none is, and None while the job, or that attempt, goes on. Of a job that was
    cancelled or timed out, lines are taken until its container is known to have stopped: at the
    latest until stop and grace are over.
    """
    read = [each for each in attempts if only in (None, each.number)]
    picked_over = only is not None and all(each.state == "ended" for each in read)
    if job.status not in TERMINAL and not picked_over:
        return None
    open_ones = (each for each in read if may_add(each, now) and not each.container_stopped)
    return max((each.stop_by for each in open_ones if each.stop_by is not None), default=now)
