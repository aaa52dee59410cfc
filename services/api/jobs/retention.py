"""Retention: for how many days jobs and logs are kept, and which job may be removed. Pure."""

from datetime import datetime, timedelta

from msgspec import Struct

from services.api.jobs.model import TERMINAL, Attempt, JobRules, JobWithAttempts
from shared.settings import FOREVER, Days

LATE_LAUNCH = timedelta(hours=1)
"""The time for which the launch of an attempt that has ended may still be reported."""

LATE_TERMINATION = timedelta(days=1)
"""The time after an instance's maximum lifetime for which its end may still be reported."""

SHARE = 0.2
"""The part of the time in which batches are removed, while there are more."""

LEAST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 60.0


class RetentionSettings(Struct, frozen=True):
    """The settings of the deployment; None: not set (*audit_days*: for ever)."""

    jobs_days: Days | None = None
    logs_days: Days | None = None
    audit_days: int | None = None


class RetentionDefaults(Struct, frozen=True):
    """The row of `retention`: the days of a deployment that sets none. None: for ever."""

    jobs_days: int | None = None
    logs_days: int | None = None


class Retention(Struct, frozen=True):
    """For how many days jobs and logs are kept. None: for ever.

    A log is kept no longer than its job.
    """

    jobs_days: int | None
    logs_days: int | None

    def jobs_before(self, now: datetime) -> datetime | None:
        """Return the time before which a job must have finished to be removed."""
        return None if self.jobs_days is None else now - timedelta(days=self.jobs_days)

    def logs_before(self, now: datetime) -> datetime | None:
        """Return the time before which a job must have finished for its log to be removed."""
        return None if self.logs_days is None else now - timedelta(days=self.logs_days)


def decide_kept(settings: RetentionSettings, defaults: RetentionDefaults) -> Retention:
    """Let each setting win over the deployment's default."""
    jobs = _days(settings.jobs_days, defaults.jobs_days)
    logs = _days(settings.logs_days, defaults.logs_days)
    if jobs is not None and (logs is None or logs > jobs):
        logs = jobs
    return Retention(jobs, logs)


def _days(setting: Days | None, default: int | None) -> int | None:
    if setting is None:
        return default
    return setting if isinstance(setting, int) else None


def describe(kept: Retention) -> str:
    """Return the sentence for the log at the start."""
    return f"jobs are kept {_time(kept.jobs_days)}, logs {_time(kept.logs_days)}"


def _time(days: int | None) -> str:
    if days is None:
        return FOREVER
    return "1 day" if days == 1 else f"{days} days"


def decide_blocking(whole_job: JobWithAttempts, now: datetime, rules: JobRules) -> str | None:
    """Return what the removal of the job waits for; None if it may be removed.

    Nothing must follow any more: no container, no instance, no bill.
    """
    job = whole_job.job
    if job.status not in TERMINAL:
        return f"job {job.id} is {job.status}: cancel it first"
    reasons = (_blocking(each, now, rules) for each in whole_job.attempts)
    return next((reason for reason in reasons if reason is not None), None)


def _blocking(attempt: Attempt, now: datetime, rules: JobRules) -> str | None:
    which = f"attempt {attempt.number} of job {attempt.job_id}"
    if attempt.ended_at is None:
        return f"{which} has not ended"
    if attempt.instance_gone_at is not None:
        return None
    if attempt.instance_id is not None:
        lifetime = timedelta(seconds=rules.max_lifetime_seconds)
        latest = (attempt.dies_by or attempt.ended_at + lifetime) + LATE_TERMINATION
        instance = f"instance {attempt.instance_id} of {which} is not known to be terminated"
        return f"{instance}; it is assumed to be from {_shown(latest)} on" if now < latest else None
    never_due = attempt.due_at > attempt.ended_at
    latest = attempt.ended_at + LATE_LAUNCH
    if never_due or attempt.cause == "refused" or now >= latest:
        return None
    return f"an instance of {which} may still be reported as launched until {_shown(latest)}"


def _shown(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def pause_after(seconds: float) -> float:
    """Return how long to pause after a batch that took *seconds*, before the next one."""
    pause = seconds * (1 - SHARE) / SHARE
    return min(max(pause, LEAST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
