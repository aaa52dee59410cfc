"""What becomes of a job: pure functions from rows and a fact to the next rows and what is told.

Each takes the job and its current attempt as they are under the job's row lock, and returns a
`Step`, or None where the fact is old news. None of them reads a clock.
"""

from datetime import datetime

from msgspec.structs import replace

from services.api.model import (
    ORDER,
    TERMINAL,
    Attempt,
    Job,
    Rules,
    Status,
    Step,
    advance,
    later,
    requirements_of,
)
from shared.events import (
    AttemptEnded,
    Cause,
    InstanceLaunched,
    InstanceTerminated,
    JobCancelled,
    JobFinished,
    JobScheduled,
    JobStarted,
    LaunchDelayed,
)


def job_scheduled(job: Job, attempt: Attempt, rules: Rules) -> JobScheduled:
    """The fact that *attempt* is to start at its time."""
    return JobScheduled(
        job_id=job.id,
        attempt=attempt.number,
        due_at=attempt.due_at,
        requirements=requirements_of(job, rules),
    )


def decide_requested(job: Job, attempt: Attempt, now: datetime) -> Step | None:
    """The attempt is due and the launcher has been asked."""
    moved = advance(attempt, "requested", now)
    return None if moved is attempt else Step(job=job, attempts=(moved,))


def decide_delayed(job: Job, attempt: Attempt, fact: LaunchDelayed, now: datetime) -> Step | None:
    """The launcher still waits, and says why."""
    if ORDER[attempt.state] > ORDER["delayed"]:
        return None
    if attempt.waiting_until is not None and fact.next_try_at < attempt.waiting_until:
        return None  # overtaken by a later telling
    moved = replace(
        advance(attempt, "delayed", now),
        waiting_because=fact.message,
        waiting_until=fact.next_try_at,
    )
    return Step(job=job, attempts=(moved,))


def decide_refused(
    job: Job, attempt: Attempt, message: str, now: datetime, rules: Rules
) -> Step | None:
    """The launcher will not launch it; old news where it has an instance or is over."""
    if ORDER[attempt.state] > ORDER["delayed"]:
        return None
    return decide_end(job, attempt, "refused", now, rules, message=message, container_stopped=True)


def decide_launched(attempt: Attempt, fact: InstanceLaunched, rules: Rules) -> Attempt:
    """An instance exists: its data is worth keeping even if the attempt has ended meanwhile."""
    known = replace(
        attempt,
        instance_id=fact.instance_id,
        instance_type=fact.instance_type,
        zone=fact.zone,
        market=fact.market,
        hourly_price_usd=fact.hourly_price_usd,
        spot_instance_request_id=fact.spot_instance_request_id,
        dies_by=fact.dies_by,
    )
    booting = advance(known, "booting", fact.launched_at)
    if booting is known:
        return known
    return replace(booting, check_at=later(fact.launched_at, rules.boot_seconds))


def decide_claimed(
    attempt: Attempt,
    *,
    token_hash: bytes,
    instance_id: str,
    runtime: str,
    now: datetime,
    rules: Rules,
) -> Attempt:
    """The agent has shown who it is; from now on its token speaks for the attempt."""
    booted = advance(attempt, "booting", now)
    return replace(
        booted,
        token_hash=token_hash,
        instance_id=instance_id,
        runtime="docker" if runtime == "docker" else "simulated",
        heartbeat_at=now,
        check_at=later(now, rules.silence_seconds),
    )


def decide_phase(job: Job, attempt: Attempt, phase: str, now: datetime) -> Step | None:
    """The agent says where it is: pulling, running or stopping."""
    moved = advance(attempt, phase, now)  # type: ignore[arg-type]  # the route admits three words
    if moved is attempt:
        return None
    if phase != "running":
        return Step(job=job, attempts=(moved,))
    runtime = attempt.runtime or "simulated"
    started = JobStarted(job_id=job.id, attempt=attempt.number, started_at=now, runtime=runtime)
    return Step(job=replace(job, status="RUNNING"), attempts=(moved,), events=(started,))


def decide_interrupted(job: Job, attempt: Attempt, now: datetime, rules: Rules) -> Step | None:
    """The interruption notice: the job will be scheduled again once this container has stopped."""
    if attempt.interrupted_at is not None:
        return None
    warned = replace(
        advance(attempt, "stopping", now),
        interrupted_at=now,
        waiting_because=(
            f"attempt {attempt.number} got a Spot interruption notice; "
            "the next one starts when its container has stopped"
        ),
        waiting_until=later(now, 120 + rules.silence_seconds),
    )
    return Step(job=replace(job, status="SCHEDULED"), attempts=(warned,))


def decide_end(
    job: Job,
    attempt: Attempt,
    cause: Cause,
    now: datetime,
    rules: Rules,
    *,
    message: str | None = None,
    exit_code: int | None = None,
    container_stopped: bool,
) -> Step:
    """The current attempt is over: the job has its last word, or gets another attempt.

    *container_stopped*: its container is known to run no more. Where that is not known, the next
    attempt is held until the instance is confirmed to be gone, so that two never run at once.
    """
    # An attempt that never got an instance has no container to wait for.
    stopped = container_stopped or attempt.container_stopped or attempt.instance_id is None
    ended = replace(
        advance(attempt, "ended", now),
        cause=cause,
        exit_code=exit_code,
        error_message=message,
        ended_at=now,
        check_at=None,
        container_stopped=stopped,
    )
    over = AttemptEnded(
        job_id=job.id,
        attempt=attempt.number,
        cause=cause,
        ended_at=now,
        terminate_after=now if stopped else _terminate_after(cause, now, rules),
    )
    again = cause in ("interrupted", "lost")
    if again and attempt.number < rules.max_attempts:
        return _again(job, ended, over, now, rules)
    if again:
        message = _gave_up(attempt.number, cause, message)
    return _finish(job, ended, over, now, message)


def _terminate_after(cause: Cause, now: datetime, rules: Rules) -> datetime:
    """A container that somebody cancelled gets its SIGTERM and grace before the instance dies."""
    if cause in ("cancelled", "timed_out"):
        return later(now, rules.stop_grace_seconds + 10)
    return now


def _again(job: Job, ended: Attempt, over: AttemptEnded, now: datetime, rules: Rules) -> Step:
    following = Attempt(
        job_id=job.id,
        number=ended.number + 1,
        state="held",
        due_at=later(now, rules.reschedule_delay_seconds),
        entered={"held": now},
        waiting_because=(
            f"instance {ended.instance_id} of attempt {ended.number} "
            "must be known to be gone before another container may start"
        ),
    )
    next_job = replace(job, status="SCHEDULED", attempt=following.number)
    step = Step(job=next_job, attempts=(ended, following), events=(over,))
    return release(step, following, now, rules) if ended.container_stopped else step


def release(step: Step, held: Attempt, now: datetime, rules: Rules) -> Step:
    """The container before *held* is known to have stopped: schedule it."""
    scheduled = advance(held, "scheduled", now)
    others = tuple(each for each in step.attempts if each is not held)
    return Step(
        job=step.job,
        attempts=(*others, scheduled),
        events=(*step.events, job_scheduled(step.job, scheduled, rules)),
    )


def _gave_up(attempts: int, cause: Cause, message: str | None) -> str:
    gave_up = f"gave up after {attempts} attempts, the last one was {cause}"
    return f"{gave_up}: {message}" if message else gave_up


_LAST_WORD: dict[Cause, Status] = {"done": "DONE", "cancelled": "CANCELLED"}


def _finish(
    job: Job, ended: Attempt, over: AttemptEnded, now: datetime, message: str | None
) -> Step:
    status: Status = _LAST_WORD.get(ended.cause or "failed", "FAILED")
    finished = replace(
        job,
        status=status,
        exit_code=ended.exit_code,
        error_message=message,
        finished_at=now,
    )
    last_word = JobFinished(
        job_id=job.id,
        status=status,  # type: ignore[arg-type]  # the table above holds terminal ones only
        finished_at=now,
        attempt=ended.number,
        exit_code=ended.exit_code,
        error_message=message,
    )
    return Step(job=finished, attempts=(ended,), events=(over, last_word))


def decide_cancel(job: Job, attempt: Attempt, now: datetime, rules: Rules) -> Step | None:
    """Somebody wants it no more; None where the job is over already."""
    if job.status in TERMINAL:
        return None
    step = decide_end(
        job, attempt, "cancelled", now, rules, message="cancelled", container_stopped=False
    )
    return replace(step, events=(JobCancelled(job_id=job.id, attempt=attempt.number), *step.events))


def decide_gone(
    job: Job, attempt: Attempt, fact: InstanceTerminated, now: datetime, rules: Rules
) -> Step | None:
    """The cloud confirms that the instance of *attempt* is gone; it need not be the current one.

    None where it is another than the attempt's own: its container may be running still.
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
    if attempt.state == "ended" or attempt.number != job.attempt:
        return Step(job=job, attempts=(billed,))
    cause: Cause = "interrupted" if fact.spot_interrupted or attempt.interrupted_at else "lost"
    message = f"instance {fact.instance_id} is gone: {fact.cause}"
    return decide_end(job, billed, cause, now, rules, message=message, container_stopped=True)


def decide_overdue(job: Job, attempt: Attempt, now: datetime, rules: Rules) -> Step:
    """`check_at` has passed: the attempt is alive and looked at again later, or it is lost."""
    if attempt.dies_by is not None and now >= attempt.dies_by:
        message = "ran into its maximum lifetime"
        return decide_end(
            job, attempt, "timed_out", now, rules, message=message, container_stopped=False
        )
    heard = attempt.heartbeat_at
    if heard is None:
        message = f"no word from its instance within {rules.boot_seconds} s of its launch"
    elif later(heard, rules.silence_seconds) > now:
        look_again = replace(attempt, check_at=later(heard, rules.silence_seconds))
        return Step(job=job, attempts=(look_again,))
    else:
        message = f"no word from its agent for {rules.silence_seconds} s"
    cause: Cause = "interrupted" if attempt.interrupted_at else "lost"
    return decide_end(job, attempt, cause, now, rules, message=message, container_stopped=False)
