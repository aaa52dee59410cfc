"""How often a job is tried again, and after how long: a budget for each kind of misfortune.

What the market, the cloud or a registry does never uses up what the job's own `retries` allow for
its container. The counts are those of the attempts themselves: nothing else keeps them. Pure.
"""

from msgspec import Struct

from services.api.jobs.model import Attempt, AttemptEnding, Job, JobRules, JobWithAttempts
from shared.backoff import Backoff
from shared.events.events import Cause

INTERRUPTIONS: tuple[Cause, ...] = ("interrupted", "lost")
PULLS: tuple[Cause, ...] = ("pull_failed",)
FAILURES: tuple[Cause, ...] = ("failed",)
LONGEST_SECONDS = 600
"""No delay between two attempts is longer."""


class Budget(Struct, frozen=True):
    """What one kind of misfortune may start: *allowed* further attempts, for *causes*."""

    causes: tuple[Cause, ...]
    allowed: int


def budget_of(job: Job, ending: AttemptEnding, rules: JobRules) -> Budget:
    """The budget that *ending* draws on; one that allows nothing where its cause is final.

    A run out of time is final, and not a failure to repeat: the limit is the job's own.
    """
    if ending.cause in INTERRUPTIONS:
        return Budget(INTERRUPTIONS, rules.interruption_budget)
    if ending.cause in PULLS:
        allowed = rules.pull_refused_budget if ending.for_good else rules.pull_budget
        return Budget(PULLS, allowed)
    if ending.cause in FAILURES:
        return Budget(FAILURES, job.retries)
    return Budget((ending.cause,), 0)


def next_delay(
    whole_job: JobWithAttempts,
    attempt: Attempt,
    ending: AttemptEnding,
    jitter: float,
    rules: JobRules,
) -> float | None:
    """Seconds until another attempt may follow *attempt*, or None: the budget is used up.

    The first attempt after an interruption starts at once (or after `reschedule_delay_seconds`);
    all others wait, longer and longer.
    """
    budget = budget_of(whole_job.job, ending, rules)
    used = 1 + _charged(whole_job, budget.causes, but=attempt.number)
    if used > budget.allowed:
        return None
    backoff = Backoff(rules.retry_first_seconds, 2, LONGEST_SECONDS)
    if budget.causes != INTERRUPTIONS:
        return backoff.delay(used, jitter)
    grown = backoff.delay(used - 1, jitter) if used > 1 else 0.0
    return rules.reschedule_delay_seconds + grown


def spent(whole_job: JobWithAttempts, rules: JobRules) -> dict[str, dict[str, int]]:
    """What of each budget is used, for a person. The end that finds it used up starts nothing."""
    kinds = {
        "interruptions": (INTERRUPTIONS, rules.interruption_budget),
        "pulls": (PULLS, rules.pull_budget),
        "retries": (FAILURES, whole_job.job.retries),
    }
    return {
        name: {"used": min(_charged(whole_job, causes), allowed), "allowed": allowed}
        for name, (causes, allowed) in kinds.items()
    }


def _charged(whole_job: JobWithAttempts, causes: tuple[Cause, ...], but: int | None = None) -> int:
    """How many attempts *but* one have drawn on the budget of *causes*: at the notice already."""
    return sum(_cause_of(each) in causes for each in whole_job.attempts if each.number != but)


def _cause_of(attempt: Attempt) -> Cause | None:
    if attempt.state != "ended" and attempt.interrupted_at is not None:
        return "interrupted"
    return attempt.cause
