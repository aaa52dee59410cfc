"""The end of an attempt, and what follows: the end of the job, or another attempt. Pure.

the current one ends ──▶ the job ends; a replacement is superseded
                    └──▶ the replacement takes over, or else another attempt is made
a replacement ends  ──▶ the current one goes on; after an interruption, another replacement
"""

from datetime import datetime

import msgspec
from msgspec.structs import replace

from services.api.jobs import boots
from services.api.jobs.costs import cost_estimate
from services.api.jobs.first_hour import left_to_the_cloud_until, noticed
from services.api.jobs.model import (
    TERMINAL,
    Attempt,
    AttemptEnding,
    Job,
    JobRules,
    JobWithAttempts,
    Status,
    Step,
    advance,
    later,
    requirements_of,
    stop_grace_of,
)
from services.api.jobs.retry_limits import INTERRUPTIONS, next_delay, retry_because
from shared.events.causes import Cause
from shared.events.events import AttemptEnded, InstanceUnconfirmed, JobFinished, JobScheduled


def job_scheduled(job: Job, attempt: Attempt, rules: JobRules) -> JobScheduled:
    """Make the event that *attempt* is to start at its due time."""
    return JobScheduled(
        job_id=job.id,
        attempt=attempt.number,
        due_at=attempt.due_at,
        requirements=requirements_of(job, rules),
    )


def decide_end(
    whole_job: JobWithAttempts,
    attempt: Attempt,
    ending: AttemptEnding,
    now: datetime,
    jitter: float,
    rules: JobRules,
) -> Step:
    """End *attempt*, which has not ended yet, and decide what follows."""
    attempt = noticed(attempt, ending, now)
    ended, over = _ended(whole_job.job, attempt, ending, now, rules)
    if attempt.number != whole_job.job.attempt:
        return _replacement_ended(whole_job, ended, over, ending, now, jitter, rules)
    delay = next_delay(whole_job, attempt, ending, now, jitter, rules)
    if delay is not None:
        because = retry_because(whole_job, attempt, ending, rules)
        return _again(whole_job.with_attempt(ended), ended, over, now, delay, because, rules)
    step = _finish(whole_job, ended, over, now, ending.message)
    return replace(step, wipe_secrets=rules.wipe_secrets and bool(whole_job.job.secret_env))


def _ended(
    job: Job, attempt: Attempt, ending: AttemptEnding, now: datetime, rules: JobRules
) -> tuple[Attempt, AttemptEnded]:
    # An attempt without a claim has no container, and can no longer be claimed.
    stopped = ending.container_stopped or attempt.container_stopped or attempt.token_hash is None
    waits = not stopped and ending.cause in _STOPPED_FIRST
    stop_by = _stop_by(job, now, rules) if waits else None
    ended = replace(
        advance(attempt, "ended", now),
        cause=ending.cause,
        exit_code=ending.exit_code,
        error_message=ending.message,
        ended_at=now,
        check_at=None,
        container_stopped=stopped,
        stop_by=stop_by,
        boot_failed=ending.boot_failed or None,
        excused=ending.excused or None,
        to_change=ending.to_change,
    )
    over = AttemptEnded(
        job_id=attempt.job_id,
        attempt=attempt.number,
        cause=ending.cause,
        ended_at=now,
        terminate_after=_terminate_after(ended, now, rules),
        boot_failed=ending.boot_failed,
        account_fault=ending.account_fault,
    )
    return ended, over


_STOPPED_FIRST: frozenset[Cause] = frozenset({"cancelled", "timed_out"})
"""Causes for which a container gets its SIGTERM and grace before its instance is terminated."""


def _stop_by(job: Job, now: datetime, rules: JobRules) -> datetime:
    """Return the time by which the container of an attempt that ends now has stopped.

    Its agent learns of the end with its next heartbeat, gives the container its grace after the
    stop signal, and reports the last lines and the exit code.
    """
    return later(now, stop_grace_of(job, rules) + max(10, rules.heartbeat_seconds + 5))


def _terminate_after(ended: Attempt, now: datetime, rules: JobRules) -> datetime:
    """Return when the instance may be ended: once the agent is done, and EC2 has had its time.

    But at once if another container waits until this instance is known to be terminated.
    """
    due = ended.stop_by or now
    if not ended.container_stopped and ended.cause != "cancelled":
        return due
    return max(due, left_to_the_cloud_until(ended, rules) or due)


def may_add(attempt: Attempt, now: datetime) -> bool:
    """Tell if the agent of an ended attempt may still add log lines and the exit code."""
    return attempt.state == "ended" and attempt.stop_by is not None and now < attempt.stop_by


def decide_exit_code(job: Job, attempt: Attempt, exit_code: int, now: datetime) -> Step | None:
    """Record the exit code of an ended attempt's container; None if it may not be added.

    Status and cause do not change. The job shows the exit code of its last attempt. The same code
    again changes nothing.
    """
    if not may_add(attempt, now) or attempt.exit_code not in (None, exit_code):
        return None
    stopped = replace(attempt, exit_code=exit_code, container_stopped=True)
    if job.status in TERMINAL and job.attempt == attempt.number and job.exit_code is None:
        job = replace(job, exit_code=exit_code)
    return Step(job=job, attempts=(stopped,) if stopped != attempt else ())


def another(whole_job: JobWithAttempts, now: datetime, delay: float, *, held: bool) -> Attempt:
    """Make a further attempt of the job."""
    return Attempt(
        job_id=whole_job.job.id,
        number=whole_job.attempts[-1].number + 1,
        state="held" if held else "scheduled",
        due_at=later(now, delay),
        entered={"held" if held else "scheduled": now},
    )


def _again(
    whole_job: JobWithAttempts,
    ended: Attempt,
    over: AttemptEnded,
    now: datetime,
    delay: float,
    because: str,
    rules: JobRules,
) -> Step:
    """Make the next attempt the current one: the replacement, if there is one."""
    ready = whole_job.replacement
    if ready is not None:
        ready = replace(ready, retry_because=because)
        job = replace(whole_job.job, status="SCHEDULED", attempt=ready.number)
        return Step(job=job, attempts=(ended, ready), events=(over,))
    blocking = whole_job.unstopped_before(whole_job.attempts[-1].number + 1)
    following = another(whole_job, now, delay, held=blocking is not None)
    waits_for = ended.to_change if ended.excused else None
    following = replace(following, retry_because=because, to_change=waits_for)
    job = replace(whole_job.job, status="SCHEDULED", attempt=following.number)
    if blocking is None:
        events = (over, job_scheduled(job, following, rules))
        return Step(job=job, attempts=(ended, following), events=events)
    waiting = replace(following, waiting_because=must_be_terminated(blocking))
    return Step(job=job, attempts=(ended, waiting), events=(over,))


def must_be_terminated(blocking: Attempt) -> str:
    """Return the reason for users why another container may not start."""
    return (
        f"instance {blocking.instance_id} of attempt {blocking.number} "
        "must be known to be terminated before another container may start"
    )


def decide_unconfirmed(
    whole_job: JobWithAttempts, attempt: Attempt, fact: InstanceUnconfirmed
) -> Step | None:
    """Explain to users why the next attempt is held on; None if none waits for this instance."""
    held = whole_job.current
    blocking = whole_job.unstopped_before(held.number)
    if held.state != "held" or blocking != attempt or attempt.instance_id != fact.instance_id:
        return None
    because = (
        f"{must_be_terminated(attempt)}: the cloud has shown it nowhere since "
        f"{msgspec.to_builtins(fact.missing_since)[:19]}Z, which proves no end; it is asked for by "
        "its id, and taken for terminated if it stays unknown until waiting_until"
    )
    waiting = replace(held, waiting_because=because, waiting_until=fact.assumed_at)
    return Step(job=whole_job.job, attempts=(waiting,))


def _replacement_ended(
    whole_job: JobWithAttempts,
    ended: Attempt,
    over: AttemptEnded,
    ending: AttemptEnding,
    now: datetime,
    jitter: float,
    rules: JobRules,
) -> Step:
    """End the replacement: the current attempt goes on, and another one may replace it."""
    step = Step(job=whole_job.job, attempts=(ended,), events=(over,))
    delay = next_delay(whole_job, ended, ending, now, jitter, rules)
    if delay is None or ending.cause not in INTERRUPTIONS:
        return step
    return beside(step, whole_job.with_attempt(ended), now, delay, rules)


def beside(
    step: Step, whole_job: JobWithAttempts, now: datetime, delay: float, rules: JobRules
) -> Step:
    """Add a replacement for the current attempt of *whole_job* to *step*."""
    following = another(whole_job, now, delay, held=False)
    return Step(
        job=step.job,
        attempts=(*step.attempts, following),
        events=(*step.events, job_scheduled(step.job, following, rules)),
    )


_FINAL_STATUS: dict[Cause, Status] = {"done": "DONE", "cancelled": "CANCELLED"}


def _finish(
    whole_job: JobWithAttempts,
    ended: Attempt,
    over: AttemptEnded,
    now: datetime,
    message: str | None,
) -> Step:
    cause: Cause = over.cause
    if ended.boot_failed:
        message = boots.gave_up(whole_job.with_attempt(ended), ended)
    elif cause in INTERRUPTIONS:
        message = _gave_up(len(whole_job.attempts), cause, message)
    status: Status = _FINAL_STATUS.get(cause, "FAILED")
    finished = replace(
        whole_job.job,
        status=status,
        exit_code=ended.exit_code,
        error_message=message,
        finished_at=now,
    )
    finished_event = JobFinished(
        job_id=whole_job.job.id,
        status=status,  # type: ignore[arg-type]  # the table above holds terminal ones only
        finished_at=now,
        attempt=ended.number,
        exit_code=ended.exit_code,
        error_message=message,
        name=whole_job.job.name,
        labels=whole_job.job.labels,
        cause=cause,
        cost_usd=cost_estimate(whole_job.attempts, now),
        project=whole_job.job.project,
        created_by=whole_job.job.created_by,
    )
    step = Step(job=finished, attempts=(ended,), events=(over, finished_event))
    return _supersede(step, whole_job, ended, now)


def _gave_up(attempts: int, cause: Cause, message: str | None) -> str:
    gave_up = f"gave up after {attempts} attempts, the last one was {cause}"
    return f"{gave_up}: {message}" if message else gave_up


def _supersede(step: Step, whole_job: JobWithAttempts, ended: Attempt, now: datetime) -> Step:
    """End the replacement, which is no longer needed; launcher and reaper get its AttemptEnded."""
    ready = whole_job.replacement
    if ready is None:
        return step
    cause: Cause = "cancelled" if ended.cause == "cancelled" else "superseded"
    superseded = replace(
        advance(ready, "ended", now),
        cause=cause,
        error_message=f"not needed: attempt {ended.number} ended the job ({ended.cause})",
        ended_at=now,
        check_at=None,
        container_stopped=True,  # it was not claimed: only the current attempt is
    )
    over = AttemptEnded(
        job_id=ready.job_id, attempt=ready.number, cause=cause, ended_at=now, terminate_after=now
    )
    first, finished_event = step.events
    return Step(
        job=step.job, attempts=(*step.attempts, superseded), events=(first, over, finished_event)
    )
