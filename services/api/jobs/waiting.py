"""The reason why a job waits, in words for users. Pure.

A retry also shows why the attempt before it ended, as long as it waits.
"""

import functools
from datetime import datetime

import msgspec

from services.api.jobs.listed import ListedJob
from services.api.jobs.model import TERMINAL, Attempt, Job


def waiting(
    job: Job | ListedJob, attempt: Attempt | ListedJob, now: datetime, trouble: str | None = None
) -> tuple[str | None, datetime | None]:
    """Return the reason for users why the job waits, and when it is checked next, if that is known.

    *trouble* is why no due job can be launched now (`launch_path`). The time is never in the past:
    what should have happened by now is not announced again.
    """
    if job.status in TERMINAL:
        return None, None
    if _is_ahead(attempt, now):
        return _due_later(attempt, now), attempt.due_at
    because, until = _delayed_by(attempt, now, trouble)
    if because is not None and attempt.retry_because is not None:
        because = f"{because}; {attempt.retry_because}"
    return because, until if until is not None and until >= now else None


def is_due(attempt: Attempt | ListedJob, now: datetime) -> bool:
    """Return whether it is due and no launch was reported: no event tells the API any more."""
    return attempt.state == "requested" or (attempt.state == "scheduled" and attempt.due_at <= now)


def _is_ahead(attempt: Attempt | ListedJob, now: datetime) -> bool:
    """Return whether the attempt waits for its due time and for nothing else."""
    return attempt.state == "scheduled" and attempt.due_at > now and attempt.waiting_because is None


def _due_later(attempt: Attempt | ListedJob, now: datetime) -> str:
    if attempt.retry_because is None:
        return _scheduled_for(attempt.due_at)
    at = to_the_second(attempt.due_at)
    if attempt.due_at.date() == now.date():
        at = at[len("2026-01-01T") :]
    retry, _, because = attempt.retry_because.partition(": ")
    return f"{retry} at {at}: {because}"


def _delayed_by(
    attempt: Attempt | ListedJob, now: datetime, trouble: str | None
) -> tuple[str | None, datetime | None]:
    if attempt.state == "delayed" and trouble is not None:
        return f"{trouble}; before that: {attempt.waiting_because}", None
    if attempt.waiting_because is not None:
        return attempt.waiting_because, attempt.waiting_until
    if is_due(attempt, now):
        return f"due {_ago(attempt.due_at, now)} ago; {trouble or 'no launch reported yet'}", None
    if attempt.state == "booting" and attempt.heartbeat_at is None:
        return f"instance {attempt.instance_id} is booting", attempt.check_at
    return None, None


def to_the_second(at: datetime) -> str:
    """Render a UTC time without its fraction; strftime takes ten times as long."""
    return f"{msgspec.to_builtins(at)[:19]}Z"


@functools.lru_cache(maxsize=256)  # the jobs of one request are often due at the same time
def _scheduled_for(due_at: datetime) -> str:
    return f"it is scheduled for {to_the_second(due_at)}"


def _ago(at: datetime, now: datetime) -> str:
    """Render the time from *at* to *now* in its two greatest units."""
    seconds = max(0, int((now - at).total_seconds()))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"
