"""Decisions about a job: pure functions from its rows and an event to new rows and events.

Each takes the rows as loaded under the job's lock, and returns a `Step`, or None if the event is
outdated. None of them reads a clock. The end of an attempt is decided in `endings.py`.
"""

from collections.abc import Sequence
from datetime import datetime

from msgspec.structs import replace

from services.api.jobs.availability import Outage, decide_lost_at, unsettled_until
from services.api.jobs.endings import beside, decide_end, job_scheduled
from services.api.jobs.model import (
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
from services.api.jobs.retry_limits import next_delay
from shared.events.events import (
    Cause,
    InstanceInterrupted,
    InstanceLaunched,
    InstanceTerminated,
    JobCancelled,
    JobStarted,
    LaunchDelayed,
    LaunchRefused,
)

NOTICE_SECONDS = 120
"""The time that EC2 promises between its notice and the end of the instance."""


def decide_delayed(job: Job, attempt: Attempt, fact: LaunchDelayed, now: datetime) -> Step | None:
    """Record that the launcher still waits, and its reason."""
    if ORDER[attempt.state] > ORDER["delayed"]:
        return None
    if attempt.waiting_until is not None and fact.next_try_at < attempt.waiting_until:
        return None  # a later event was handled before
    moved = replace(
        advance(attempt, "delayed", now),
        waiting_because=fact.message,
        waiting_until=fact.next_try_at,
    )
    return Step(job=job, attempts=(moved,))


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
        spot_instance_request_id=fact.spot_instance_request_id,
        dies_by=fact.dies_by,
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
    started = JobStarted(job_id=job.id, attempt=attempt.number, started_at=now, runtime=runtime)
    return Step(job=replace(job, status="RUNNING"), attempts=(moved,), events=(started,))


def decide_interrupted(
    whole_job: JobWithAttempts, attempt: Attempt, now: datetime, jitter: float, rules: JobRules
) -> Step | None:
    """Take an interruption notice: the replacement is launched now, and boots meanwhile.

    Its container starts once this one is known to have stopped; if this one still exits 0, the
    replacement is superseded. An attempt without a claim has nothing to finish: it ends.
    """
    if attempt.state == "ended" or attempt.interrupted_at is not None:
        return None
    if attempt.token_hash is None:
        message = "its instance was interrupted before its container could start"
        ending = AttemptEnding(cause="interrupted", message=message, container_stopped=True)
        warned = replace(attempt, interrupted_at=now)
        return decide_end(whole_job, warned, ending, now, jitter, rules)
    warned = replace(
        advance(attempt, "stopping", now),
        interrupted_at=now,
        waiting_because=(
            f"attempt {attempt.number} got a Spot interruption notice; "
            "the next one starts when its container has stopped"
        ),
        waiting_until=later(now, NOTICE_SECONDS + rules.silence_seconds),
    )
    step = Step(job=replace(whole_job.job, status="SCHEDULED"), attempts=(warned,))
    return _replaced_early(step, whole_job, attempt, now, jitter, rules)


def _replaced_early(
    step: Step,
    whole_job: JobWithAttempts,
    attempt: Attempt,
    now: datetime,
    jitter: float,
    rules: JobRules,
) -> Step:
    if whole_job.replacement is not None:
        return step
    ending = AttemptEnding(cause="interrupted", container_stopped=False)
    delay = next_delay(whole_job, attempt, ending, jitter, rules)
    return step if delay is None else beside(step, whole_job, now, delay, rules)


def decide_rebalance(
    whole_job: JobWithAttempts, attempt: Attempt, now: datetime, jitter: float, rules: JobRules
) -> Step | None:
    """Record a rebalance recommendation; `replace_on_rebalance`: launch the replacement too."""
    if attempt.state == "ended" or attempt.rebalance_at is not None:
        return None
    step = Step(job=whole_job.job, attempts=(replace(attempt, rebalance_at=now),))
    if not rules.replace_on_rebalance or attempt.token_hash is None:
        return step
    return _replaced_early(step, whole_job, attempt, now, jitter, rules)


def decide_instance_interrupted(
    whole_job: JobWithAttempts,
    attempt: Attempt,
    fact: InstanceInterrupted,
    now: datetime,
    jitter: float,
    rules: JobRules,
) -> Step | None:
    """Take a notice that the reaper received: the agent may be unable to report it."""
    if attempt.instance_id not in (None, fact.instance_id):
        return None
    known = replace(attempt, instance_id=fact.instance_id)
    if fact.kind == "rebalance":
        return decide_rebalance(whole_job, known, now, jitter, rules)
    return decide_interrupted(whole_job, known, now, jitter, rules)


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
) -> Step | None:
    """Record that the instance of *attempt*, current or not, is terminated.

    None if the attempt has another instance: its container may still run.
    """
    if attempt.instance_id not in (None, fact.instance_id):
        return None
    billed = replace(
        attempt,
        container_stopped=True,
        instance_gone_at=fact.terminated_at,
        billed_seconds=fact.billed_seconds,
        cost_usd=fact.cost_usd,
    )
    if attempt.state != "ended":
        cause: Cause = "interrupted" if fact.spot_interrupted or attempt.interrupted_at else "lost"
        message = f"instance {fact.instance_id} is terminated: {fact.cause}"
        ending = AttemptEnding(cause=cause, message=message, container_stopped=True)
        return decide_end(whole_job, billed, ending, now, jitter, rules)
    if attempt.cause == "lost" and fact.spot_interrupted:
        billed = replace(billed, cause="interrupted")  # the cloud reports the cause of the silence
    return _release(
        Step(job=whole_job.job, attempts=(billed,)), whole_job.with_attempt(billed), now, rules
    )


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
) -> Step:
    """Decide on an attempt whose `check_at` has passed: check it again later, or end it as lost.

    Only silence outside *outages* counts (`availability.py`). A lost attempt's container counts as
    running until the cloud reports the instance as terminated (the reaper repeats that request);
    until then the next attempt is held.
    """
    if settled_at := unsettled_until(now, outages):
        return Step(job=whole_job.job, attempts=(replace(attempt, check_at=settled_at),))
    if attempt.dies_by is not None and now >= attempt.dies_by and attempt.token_hash is not None:
        message = "its maximum lifetime passed"
        ending = AttemptEnding(cause="timed_out", message=message, container_stopped=False)
        return decide_end(whole_job, attempt, ending, now, jitter, rules)
    lost_at = decide_lost_at(attempt, now, rules, outages)
    if lost_at > now:
        return Step(job=whole_job.job, attempts=(replace(attempt, check_at=lost_at),))
    if attempt.heartbeat_at is None:
        message = f"no claim by its instance within {rules.boot_seconds} s of its launch"
    else:
        message = f"no report by its agent for {rules.silence_seconds} s"
    cause: Cause = "interrupted" if attempt.interrupted_at else "lost"
    ending = AttemptEnding(cause=cause, message=message, container_stopped=False)
    return decide_end(whole_job, attempt, ending, now, jitter, rules)
