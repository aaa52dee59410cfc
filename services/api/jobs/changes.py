"""The changes of jobs that users see: each is a row, written with the change itself. Pure.

`services/api/changes` gives them their order, and shows them.
"""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from services.api.jobs.model import Attempt, Job, JobWithAttempts
from services.api.jobs.reasons import status_reason
from services.api.jobs.views import phase

CHANGES = "changes"
"""The topic of the wake-ups for followers of all jobs."""

JOB = "job"
"""The topic of those for the followers of one job; its id is the detail."""

SOME_CHANGE = f"{CHANGES}:"


def of_job(job_id: int) -> str:
    """Return the wake-up for the followers of a job."""
    return f"{JOB}:{job_id}"


class Shown(Struct, frozen=True):
    """The part of a job that a change shows."""

    status: str
    attempt: int
    phase: str
    reason: str


def shown(job: Job, attempt: Attempt, now: datetime) -> Shown:
    """Return what a change shows of *job*, whose current attempt is *attempt*."""
    reason = status_reason(job, attempt, now)
    return Shown(job.status, job.attempt, phase(job, attempt, now), reason)


def change_of(before: JobWithAttempts, after: JobWithAttempts, now: datetime) -> Shown | None:
    """Return what is shown of the job after a decision, None if it is the same as before.

    Both are seen at the same time, so what only the passing of time changes is no change.
    """
    job, current = after.job, after.current
    if before.job is job and before.current is current:
        return None
    now_shown = shown(job, current, now)
    return None if now_shown == shown(before.job, before.current, now) else now_shown


class ChangeColumns(Struct, frozen=True):
    """Changes as the arrays of a statement, in the order of its parameters."""

    jobs: list[int]
    statuses: list[str]
    attempts: list[int]
    phases: list[str]
    reasons: list[str]


def columns_of(changes: Sequence[tuple[int, Shown]]) -> ChangeColumns:
    """Arrange *changes*, each with the id of its job."""
    found = [each for _, each in changes]
    return ChangeColumns(
        [job_id for job_id, _ in changes],
        [each.status for each in found],
        [each.attempt for each in found],
        [each.phase for each in found],
        [each.reason for each in found],
    )
