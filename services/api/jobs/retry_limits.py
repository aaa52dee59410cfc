"""Retry limits: how often a job is tried again after each kind of failure, and the delay. Pure.

Failures of the Spot market, the cloud or a registry never use up the job's own `retries`, which are
for its container. The counts are computed from the attempts; they are stored nowhere else.
"""

from datetime import datetime

from msgspec import Struct

from services.api.jobs.boots import excused_in_a_row, failed_in_a_row
from services.api.jobs.model import Attempt, AttemptEnding, Job, JobRules, JobWithAttempts, later
from shared.backoff import Backoff
from shared.events.causes import Cause

INTERRUPTIONS: tuple[Cause, ...] = ("interrupted", "lost")
PULLS: tuple[Cause, ...] = ("pull_failed",)
FAILURES: tuple[Cause, ...] = ("failed",)
BOOTS: tuple[Cause, ...] = ()
"""Failed boots have no cause of their own: the instance is lost."""

PASSED_COUNT_SECONDS = 60
"""The shortest delay between two attempts that only the time of the pull budget allows."""

LONGEST_SECONDS = 600
"""The longest delay between two attempts."""

LONGEST_EXCUSED_SECONDS = 3600
"""The longest delay after an excused end: as many attempts follow as the fault lasts."""

REASON_CHARACTERS = 300
"""The most characters of an error message in `retry_because`; its attempt has all of it."""


class RetryLimit(Struct, frozen=True):
    """The number of further attempts that are *allowed* for one kind of failure, *causes*.

    More are allowed for *seconds* from the first such failure.
    """

    causes: tuple[Cause, ...]
    allowed: int
    seconds: int = 0


def retry_limit(job: Job, ending: AttemptEnding, rules: JobRules) -> RetryLimit:
    """Return the limit that *ending* counts against; it allows nothing if its cause is final.

    A time limit that passed is final, and not a failure to retry: the limit is the job's own.
    """
    if ending.cause in INTERRUPTIONS:
        return RetryLimit(INTERRUPTIONS, rules.interruption_budget)
    if ending.cause in PULLS:
        if ending.for_good:
            return RetryLimit(PULLS, rules.pull_refused_budget)
        return RetryLimit(PULLS, rules.pull_budget, rules.pull_budget_seconds)
    if ending.cause in FAILURES:
        return RetryLimit(FAILURES, job.retries)
    return RetryLimit((ending.cause,), 0)


def next_delay(
    whole_job: JobWithAttempts,
    attempt: Attempt,
    ending: AttemptEnding,
    now: datetime,
    jitter: float,
    rules: JobRules,
) -> float | None:
    """Return the seconds until another attempt may follow *attempt*; None: the limit is reached.

    The first attempt after an interruption or a failed boot starts at once (or after
    `reschedule_delay_seconds`); the delay of all others grows exponentially. A failed boot counts
    against its own limit, and against that of interruptions too. An excused end counts against
    none: the job is not at fault, and waits until that is mended.
    """
    backoff = Backoff(rules.retry_first_seconds, 2, LONGEST_SECONDS)
    if ending.excused:
        backoff = Backoff(rules.retry_first_seconds, 2, LONGEST_EXCUSED_SECONDS)
        return backoff.delay(1 + excused_in_a_row(whole_job, attempt.number), jitter)
    limit, used = _limit_and_use(whole_job, attempt, ending, rules)
    if used > limit.allowed:
        if now >= later(_first_failed_pull(whole_job, attempt, now), limit.seconds):
            return None
        return max(PASSED_COUNT_SECONDS, backoff.delay(used, jitter))
    if limit.causes not in (INTERRUPTIONS, BOOTS):
        return backoff.delay(used, jitter)
    grown = backoff.delay(used - 1, jitter) if used > 1 else 0.0
    return rules.reschedule_delay_seconds + grown


def retry_because(
    whole_job: JobWithAttempts, attempt: Attempt, ending: AttemptEnding, rules: JobRules
) -> str:
    """Return the reason for users why another attempt follows *attempt*: "retry 2 of 3: …"."""
    reason = _reason(attempt, ending)
    if ending.excused:
        return f"retry {1 + excused_in_a_row(whole_job, attempt.number)}: {reason}"
    limit, used = _limit_and_use(whole_job, attempt, ending, rules)
    if used > limit.allowed:
        return f"retry {used} within {limit.seconds / 60:g} min: {reason}"
    return f"retry {used} of {limit.allowed}: {reason}"


def _first_failed_pull(whole_job: JobWithAttempts, attempt: Attempt, now: datetime) -> datetime:
    """Return the end of the first failed pull since a container of the job last ran."""
    first = None
    for each in whole_job.attempts:
        if each.number >= attempt.number:
            break
        if "running" in each.entered:
            first = None
        elif each.cause in PULLS and first is None:
            first = each.ended_at
    return first or now


def _limit_and_use(
    whole_job: JobWithAttempts, attempt: Attempt, ending: AttemptEnding, rules: JobRules
) -> tuple[RetryLimit, int]:
    """Return the limit for *ending*, and how much of it is used with the attempt to follow."""
    limit = retry_limit(whole_job.job, ending, rules)
    used = 1 + _count(whole_job, limit.causes, but=attempt.number)
    if ending.boot_failed and used <= limit.allowed:
        failed = 1 + len(failed_in_a_row(whole_job, attempt.number))
        return RetryLimit(BOOTS, rules.boot_limit - 1), failed
    return limit, used


KINDS: dict[Cause, str] = {
    "pull_failed": "image pull failed",
    "interrupted": "Spot interruption",
    "lost": "instance lost",
}
BOOT_FAILED = "boot failed"


def _reason(attempt: Attempt, ending: AttemptEnding) -> str:
    """Return kind and message of *ending* in one line; of a long message its end is kept."""
    message = " ".join((ending.message or "").split())
    if len(message) > REASON_CHARACTERS:
        message = f"…{message[1 - REASON_CHARACTERS :]}"
    kind = BOOT_FAILED if ending.boot_failed else KINDS.get(ending.cause, str(ending.cause))
    if ending.cause == "failed" and ending.exit_code is not None:
        kind = f"exit code {ending.exit_code}"
        if message == f"exited with code {ending.exit_code}":  # the agent's, of a silent container
            return kind
    if ending.cause == "interrupted" and attempt.interrupted_at is None and message:
        return message  # not by the Spot market, whose notice would be known
    return f"{kind}: {message}" if message else kind


def retries_used(whole_job: JobWithAttempts, rules: JobRules) -> dict[str, dict[str, int]]:
    """Return how much of each retry limit is used, as `/status` shows it."""
    kinds = {
        "interruptions": (INTERRUPTIONS, rules.interruption_budget),
        "pulls": (PULLS, rules.pull_budget),
        "retries": (FAILURES, whole_job.job.retries),
    }
    return {
        name: {"used": min(_count(whole_job, causes), allowed), "allowed": allowed}
        for name, (causes, allowed) in kinds.items()
    }


def _count(whole_job: JobWithAttempts, causes: tuple[Cause, ...], but: int | None = None) -> int:
    """Count the attempts *but* one that ended for *causes*; a notice counts as interruption."""
    counted = (each for each in whole_job.attempts if not each.excused and each.number != but)
    return sum(_cause_of(each) in causes for each in counted)


def _cause_of(attempt: Attempt) -> Cause | None:
    if attempt.state != "ended" and attempt.interrupted_at is not None:
        return "interrupted"
    return attempt.cause
