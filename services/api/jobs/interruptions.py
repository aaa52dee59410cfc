"""Decisions about Spot interruptions: a notice or recommendation launches the replacement. Pure."""

from datetime import datetime

from msgspec.structs import replace

from services.api.jobs.endings import beside, decide_end
from services.api.jobs.first_hour import NOTICE_SECONDS
from services.api.jobs.model import (
    Attempt,
    AttemptEnding,
    JobRules,
    JobWithAttempts,
    Step,
    advance,
    later,
)
from services.api.jobs.retry_limits import next_delay
from shared.events.events import InstanceInterrupted


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
        # An outage moves it on, with the next check: `decisions.decide_overdue`.
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
    delay = next_delay(whole_job, attempt, ending, now, jitter, rules)
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
