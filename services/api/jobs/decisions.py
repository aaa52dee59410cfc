"""Decisions about a job: pure functions from its rows and an event to new rows and events.

Each takes the rows as loaded under the job's lock, and returns a `Step`, or None if the event is
outdated. None of them reads a clock. `interruptions.py` and `endings.py` have further ones.
"""

from collections.abc import Sequence
from datetime import datetime

from msgspec.structs import replace

from services.api.jobs import boots
from services.api.jobs.availability import Outage, decide_lost_at, unsettled_until
from services.api.jobs.endings import decide_end, job_scheduled
from services.api.jobs.model import (
    LIFETIME_PASSED,
    ORDER,
    TERMINAL,
    Attempt,
    AttemptEnding,
    Job,
    JobRules,
    JobWithAttempts,
    Step,
    advance,
    later,
)
from shared.events.causes import Cause
from shared.events.events import (
    InstanceLaunched,
    InstanceTerminated,
    JobCancelled,
    JobStarted,
    LaunchDelayed,
    LaunchRefused,
)


def decide_delayed(job: Job, attempt: Attempt, fact: LaunchDelayed, now: datetime) -> Step | None:
    """Record that the launcher still waits, and its reason."""
    if ORDER[attempt.state] > ORDER["delayed"]:
        return None
    if _is_older(fact, attempt):
        return None  # a later event was handled before
    moved = replace(
        advance(attempt, "delayed", now),
        waiting_because=fact.message,
        waiting_until=fact.next_try_at,
        to_change=fact.to_change,
        delayed_at=fact.delayed_at or attempt.delayed_at,
    )
    return Step(job=job, attempts=(moved,))


def _is_older(fact: LaunchDelayed, attempt: Attempt) -> bool:
    """Return whether a later delay is known. Earlier releases publish no time of it."""
    if fact.delayed_at is not None and attempt.delayed_at is not None:
        return fact.delayed_at < attempt.delayed_at
    return attempt.waiting_until is not None and fact.next_try_at < attempt.waiting_until


def decide_refused(
    whole_job: JobWithAttempts,
    attempt: Attempt,
    fact: LaunchRefused,
    now: datetime,
    jitter: float,
    rules: JobRules,
) -> Step | None:
    """End an attempt that the launcher will not launch; None if it has an instance or has ended."""
    if ORDER[attempt.state] > ORDER["delayed"]:
        return None
    cause: Cause = "no_capacity" if fact.reason == "no_capacity" else "refused"
    ending = AttemptEnding(cause=cause, message=fact.message, container_stopped=True)
    return decide_end(whole_job, attempt, ending, now, jitter, rules)


def decide_launched(
    attempt: Attempt, fact: InstanceLaunched, rules: JobRules, recorded_at: datetime | None = None
) -> Attempt:
    """Record the launched instance, even if the attempt has ended meanwhile.

    It has `boot_seconds` from *recorded_at*: an agent that claims by its role is unknown before.
    """
    known = replace(
        attempt,
        instance_id=fact.instance_id,
        instance_type=fact.instance_type,
        zone=fact.zone,
        market=fact.market,
        hourly_price_usd=fact.hourly_price_usd,
        on_demand_hourly_price_usd=fact.on_demand_hourly_price_usd,
        other_prices=fact.other_prices,
        spot_instance_request_id=fact.spot_instance_request_id,
        dies_by=fact.dies_by,
        launched_at=fact.launched_at,
    )
    booting = advance(known, "booting", fact.launched_at)
    if booting is known:
        return known
    awaited_from = max(fact.launched_at, recorded_at or fact.launched_at)
    return replace(
        booting,
        launch_recorded_at=recorded_at,
        check_at=later(awaited_from, rules.boot_seconds),
    )


def decide_claimed(
    attempt: Attempt,
    *,
    token_hash: bytes,
    instance_id: str,
    runtime: str,
    now: datetime,
    rules: JobRules,
) -> Attempt:
    """Bind the agent's token to the attempt: its identity is verified."""
    booted = advance(attempt, "booting", now)
    return replace(
        booted,
        token_hash=token_hash,
        instance_id=instance_id,
        runtime="docker" if runtime == "docker" else "simulated",
        heartbeat_at=now,
        check_at=later(now, rules.silence_seconds),
        waiting_because=None,
        waiting_until=None,
    )


def decide_must_wait(
    attempt: Attempt, because: str, instance_id: str, now: datetime, rules: JobRules
) -> Attempt:
    """Record an agent that claims before its turn; it will ask again."""
    return replace(
        advance(attempt, "booting", now),
        instance_id=instance_id,
        heartbeat_at=now,
        check_at=later(now, rules.silence_seconds),
        waiting_because=because,
    )


def decide_phase(job: Job, attempt: Attempt, phase: str, now: datetime) -> Step | None:
    """Record the phase that the agent reports: pulling, running or stopping."""
    moved = advance(attempt, phase, now)  # type: ignore[arg-type]  # the route allows these three
    if moved is attempt:
        return None
    if phase != "running":
        return Step(job=job, attempts=(moved,))
    runtime = attempt.runtime or "simulated"
    started = JobStarted(
        job_id=job.id,
        attempt=attempt.number,
        started_at=now,
        runtime=runtime,
        project=job.project,
        created_by=job.created_by,
    )
    return Step(job=replace(job, status="RUNNING"), attempts=(moved,), events=(started,))


def decide_cancel(
    whole_job: JobWithAttempts, now: datetime, jitter: float, rules: JobRules
) -> Step | None:
    """Cancel the job; return None if it is already terminal."""
    job = whole_job.job
    if job.status in TERMINAL:
        return None
    ending = AttemptEnding(cause="cancelled", message="cancelled", container_stopped=False)
    step = decide_end(whole_job, whole_job.current, ending, now, jitter, rules)
    return replace(step, events=(JobCancelled(job_id=job.id, attempt=job.attempt), *step.events))


def decide_terminated(
    whole_job: JobWithAttempts,
    attempt: Attempt,
    fact: InstanceTerminated,
    now: datetime,
    jitter: float,
    rules: JobRules,
    *,
    shared: bool = False,
) -> Step | None:
    """Record that the instance of *attempt*, current or not, is terminated.

    None if the attempt has another instance: its container may still run. *shared*: instances of
    other jobs do not boot either.
    """
    if attempt.instance_id not in (None, fact.instance_id):
        return None
    billed = replace(
        attempt,
        container_stopped=True,
        instance_gone_at=fact.terminated_at,
        billed_seconds=fact.billed_seconds,
        cost_usd=fact.cost_usd,
        cost_lines=fact.cost_lines,
    )
    if attempt.state != "ended":
        ending = boots.ending_with(attempt, fact, shared=shared)
        return decide_end(whole_job, billed, ending, now, jitter, rules)
    if attempt.cause == "lost" and fact.spot_interrupted:
        # The cloud reports the cause of the silence.
        billed = replace(billed, cause="interrupted", boot_failed=None, excused=None)
    job, billed = boots.with_console(whole_job.job, billed, fact.console_output)
    return _release(Step(job=job, attempts=(billed,)), whole_job.with_attempt(billed), now, rules)


def _release(step: Step, whole_job: JobWithAttempts, now: datetime, rules: JobRules) -> Step:
    """Schedule the current attempt if it was held, and no container before it may run now."""
    held = whole_job.current
    if held.state != "held" or whole_job.unstopped_before(held.number) is not None:
        return step
    # It was held and not launching: it is due from now on.
    scheduled = replace(advance(held, "scheduled", now), due_at=max(held.due_at, now))
    return Step(
        job=step.job,
        attempts=(*step.attempts, scheduled),
        events=(*step.events, job_scheduled(step.job, scheduled, rules)),
    )


def decide_overdue(
    whole_job: JobWithAttempts,
    attempt: Attempt,
    now: datetime,
    jitter: float,
    rules: JobRules,
    outages: Sequence[Outage] = (),
    *,
    shared: bool = False,
) -> Step:
    """Decide on an attempt whose `check_at` has passed: check it again later, or end it as lost.

    Only silence outside *outages* counts (`availability.py`). A lost attempt's container counts as
    running until the cloud reports the instance as terminated (the reaper repeats that request);
    until then the next attempt is held.
    """
    if settled_at := unsettled_until(now, outages):
        return Step(job=whole_job.job, attempts=(_checked_again(attempt, settled_at),))
    if attempt.dies_by is not None and now >= attempt.dies_by and attempt.token_hash is not None:
        ending = AttemptEnding(cause="timed_out", message=LIFETIME_PASSED, container_stopped=False)
        return decide_end(whole_job, attempt, ending, now, jitter, rules)
    lost_at = decide_lost_at(attempt, now, rules, outages)
    if lost_at > now:
        return Step(job=whole_job.job, attempts=(_checked_again(attempt, lost_at),))
    if attempt.heartbeat_at is None:
        ending = boots.ending_without_claim(attempt, rules.boot_seconds, shared=shared)
    else:
        message = f"no report by its agent for {rules.silence_seconds} s"
        cause: Cause = "interrupted" if attempt.interrupted_at else "lost"
        ending = AttemptEnding(cause=cause, message=message, container_stopped=False)
    return decide_end(whole_job, attempt, ending, now, jitter, rules)


def _checked_again(attempt: Attempt, check_at: datetime) -> Attempt:
    """Check *attempt* at a later time; the time that users see for an interruption is not before.

    Only an interrupted attempt shows a time beside this one: that of the launcher is over.
    """
    waiting_until = attempt.waiting_until
    if attempt.interrupted_at is not None and waiting_until is not None:
        waiting_until = max(waiting_until, check_at)
    return replace(attempt, check_at=check_at, waiting_until=waiting_until)
