"""The circuit breaker of launching: a pause after several failed boots in a row. Pure.

    closed ─ N failed boots in a row, of 2 jobs ─▶ paused ─ its time passes ─▶ trial
      ▲                                              ▲                          │ │
      └──────────── an agent claims a job ───────────┼──────────────────────────┘ │
                                                     └── a trial does not boot ───┘

A fault that all instances share (an image without Docker, an API that they cannot reach) costs a
boot of each instance, and a job of some of them: so nothing is launched for a while, and then one
instance at a time. Each pause is longer than the one before. The launcher keeps it (its `pauses`).
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from services.api.jobs.model import Attempt, JobRules
from services.api.jobs.retry_limits import REASON_CHARACTERS
from services.api.jobs.waiting import to_the_second
from shared.backoff import Backoff
from shared.events.events import AttemptEnded, Event, LaunchesPaused, LaunchesResumed

PAUSE = Backoff(first=300, factor=2, longest=3600)
LEAST_JOBS = 2
"""One job alone may ask for what does not boot; its own limit ends it."""

TRIAL_MARGIN_SECONDS = 60
"""From the end of a trial's boot time until its failure is known to the launcher."""


class Breaker(Struct, frozen=True, kw_only=True):
    """The row of `launch_breaker`. `sql/` describes its columns."""

    failures: int = 0
    job_ids: tuple[int, ...] = ()
    pauses: int = 0
    sequence: int = 0
    paused_at: datetime | None = None
    paused_until: datetime | None = None
    message: str | None = None


class FailedBoot(Struct, frozen=True, kw_only=True):
    """An attempt whose instance did not boot."""

    job_id: int
    launched_at: datetime | None
    reason: str


def failed_boots(events: Iterable[Event], attempts: Sequence[Attempt]) -> list[FailedBoot]:
    """Return the failed boots among *events*, of *attempts*."""
    by_key = {(each.job_id, each.number): each for each in attempts}
    ended = (each for each in events if isinstance(each, AttemptEnded) and each.boot_failed)
    found = [by_key[each.job_id, each.attempt] for each in ended]
    return [
        FailedBoot(
            job_id=each.job_id,
            launched_at=each.entered.get("booting"),
            reason=each.error_message or "",
        )
        for each in found
    ]


def decide_failed(
    breaker: Breaker, failed: Sequence[FailedBoot], now: datetime, jitter: float, rules: JobRules
) -> tuple[Breaker, LaunchesPaused | None]:
    """Count *failed*, of which there is one at least; pause, or pause again after a trial."""
    jobs = tuple(dict.fromkeys((*breaker.job_ids, *(each.job_id for each in failed))))[:LEAST_JOBS]
    counted = replace(breaker, failures=breaker.failures + len(failed), job_ids=jobs)
    if breaker.paused_until is None:
        if counted.failures < rules.boot_failures_pause or len(jobs) < LEAST_JOBS:
            return counted, None
    elif not any(_is_trial(each, breaker) for each in failed):
        return counted, None  # it was launched before the pause, and is no news
    return _paused(counted, failed[-1].reason, now, jitter, rules)


def decide_claimed(breaker: Breaker) -> tuple[Breaker, LaunchesResumed | None]:
    """Forget the failures: an agent has claimed its job; end the pause."""
    closed = Breaker(sequence=breaker.sequence)
    if breaker.paused_until is None:
        return closed, None
    closed = replace(closed, sequence=breaker.sequence + 1)
    return closed, LaunchesResumed(sequence=closed.sequence)


def decide_answer(breaker: Breaker, sequence: int) -> tuple[Breaker, LaunchesResumed] | None:
    """Answer a launcher that still waits for the end of pause *sequence*; None: it is right to.

    The event that ended it was lost, or the row is of a restored database.
    """
    if breaker.paused_until is not None and breaker.sequence >= sequence:
        return None
    after = max(breaker.sequence, sequence) + 1
    return Breaker(sequence=after), LaunchesResumed(sequence=after)


def describe(breaker: Breaker, now: datetime) -> str | None:
    """Return why launches are paused, without a word of a job; None: they are not."""
    if breaker.paused_until is None:
        return None
    until = f"until {to_the_second(breaker.paused_until)}"
    how = "but for one at a time, as a trial" if now >= breaker.paused_until else until
    return f"launches are paused {how}: {breaker.failures} instances in a row have not booted"


def _is_trial(boot: FailedBoot, breaker: Breaker) -> bool:
    """Tell if it was launched after the pause: nearer to its end than to its start.

    The launch has the cloud's own time, and launchers get the pause a moment after its start.
    """
    if boot.launched_at is None or breaker.paused_at is None or breaker.paused_until is None:
        return False
    return boot.launched_at - breaker.paused_at > breaker.paused_until - boot.launched_at


def _paused(
    counted: Breaker, reason: str, now: datetime, jitter: float, rules: JobRules
) -> tuple[Breaker, LaunchesPaused]:
    until = now + timedelta(seconds=PAUSE.delay(counted.pauses + 1, jitter))
    shown = " ".join(reason.split())
    shown = shown if len(shown) <= REASON_CHARACTERS else f"{shown[: REASON_CHARACTERS - 1]}…"
    message = (
        f"launches are paused: {counted.failures} instances in a row have not booted; "
        f"the last: {shown}"
    )
    paused = replace(
        counted,
        pauses=counted.pauses + 1,
        sequence=counted.sequence + 1,
        paused_at=now,
        paused_until=until,
        message=message,
    )
    event = LaunchesPaused(
        sequence=paused.sequence,
        until=until,
        message=message,
        failures=paused.failures,
        trial_seconds=rules.boot_seconds + TRIAL_MARGIN_SECONDS,
    )
    return paused, event
