"""The circuit breaker of launching: a pause after several failed boots in a row. Pure.

    closed ─ N failed boots in a row, of 2 jobs ─▶ paused ─ its time passes ─▶ trial
      ▲                                              ▲                          │ │
      └──────────── an agent claims a job ───────────┼──────────────────────────┘ │
                                                     └── a trial does not boot ───┘

A fault that all instances share (an image without Docker, an API that they cannot reach) costs a
boot of each instance, and a job of some of them: so nothing is launched for a while, and then one
instance at a time. Each pause is longer than the one before. The launcher keeps it (its `pauses`).

Of one job only a few count (`with_failed`). From the failed boot that opens it until a claim,
failed boots count against no job (`is_shared`); nor do those that made it open, once it is open
(`excuse`).
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from services.api.jobs.boots import CONSOLE
from services.api.jobs.model import Attempt, JobRules, JobWithAttempts
from services.api.jobs.retry_limits import REASON_CHARACTERS
from services.api.jobs.waiting import to_the_second
from shared.backoff import Backoff
from shared.console_text import NOTE
from shared.events.events import AttemptEnded, Event, LaunchesPaused, LaunchesResumed
from shared.launch_pauses import LAST_FAILURE, PAUSED

PAUSE = Backoff(first=300, factor=2, longest=3600)
LEAST_JOBS = 2
"""One job alone may ask for what does not boot; its own limit ends it."""

TRIAL_MARGIN_SECONDS = 60
"""From the end of a trial's boot time until its failure is known to the launcher."""


class Breaker(Struct, frozen=True, kw_only=True):
    """The row of `launch_breaker`. `sql/` describes its columns.

    *job_ids* has the job of each failed boot that counts, up to the pause.
    """

    failures: int = 0
    job_ids: tuple[int, ...] = ()
    pauses: int = 0
    sequence: int = 0
    paused_at: datetime | None = None
    paused_until: datetime | None = None
    message: str | None = None
    to_change: str | None = None
    since: datetime | None = None
    shared_from: datetime | None = None
    shared_until: datetime | None = None


class FailedBoot(Struct, frozen=True, kw_only=True):
    """An attempt whose instance did not boot."""

    job_id: int
    launched_at: datetime | None
    reason: str
    to_change: str | None = None


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
            to_change=each.to_change,
        )
        for each in found
    ]


def is_shared(breaker: Breaker, job_id: int, rules: JobRules) -> bool:
    """Return whether a failed boot of this job now is one of many, for which launches pause."""
    if breaker.paused_until is not None:
        return True
    return _opens(with_failed(breaker, [job_id], rules), rules)


def with_failed(breaker: Breaker, job_ids: Iterable[int], rules: JobRules) -> Breaker:
    """Add failed boots of these jobs, which are not saved yet; in a pause all of them count.

    Before it a job counts only a few times: one whose instances EC2 never starts is tried for as
    long as that lasts, and must not make up the pause of all.
    """
    added = list(job_ids)
    if breaker.paused_until is not None:
        return replace(breaker, failures=breaker.failures + len(added))
    most = min(rules.boot_limit, (rules.boot_failures_pause + 1) // 2)
    for job_id in added:
        if breaker.job_ids.count(job_id) < most:
            jobs = (*breaker.job_ids, job_id)
            breaker = replace(breaker, failures=breaker.failures + 1, job_ids=jobs)
    return breaker


def _opens(breaker: Breaker, rules: JobRules) -> bool:
    """Return whether so many failed boots, of several jobs, begin a pause."""
    several = len(set(breaker.job_ids)) >= LEAST_JOBS
    return several and breaker.failures >= rules.boot_failures_pause


def excuse(breaker: Breaker, whole_job: JobWithAttempts) -> list[Attempt]:
    """Return the failed boots of a job that helped to open the breaker, now excused."""
    return [
        replace(each, excused=True)
        for each in whole_job.attempts
        if each.boot_failed and not each.excused and _is_within(breaker, each.ended_at)
    ]


def _is_within(breaker: Breaker, at: datetime | None) -> bool:
    if at is None:
        return False
    if breaker.paused_until is not None and breaker.since is not None and at >= breaker.since:
        return True
    if breaker.shared_from is None or breaker.shared_until is None:
        return False
    return breaker.shared_from <= at < breaker.shared_until


def decide_failed(
    breaker: Breaker, failed: Sequence[FailedBoot], now: datetime, jitter: float, rules: JobRules
) -> tuple[Breaker, LaunchesPaused | None]:
    """Count *failed*, of which there is one at least; pause, or pause again after a trial."""
    counted = with_failed(breaker, (each.job_id for each in failed), rules)
    counted = replace(counted, since=breaker.since or now)
    if breaker.paused_until is None:
        if not _opens(counted, rules):
            return counted, None
    elif not any(_is_trial(each, breaker) for each in failed):
        return counted, None  # it was launched before the pause, and is no news
    return _paused(counted, failed[-1], now, jitter, rules)


def decide_console(
    breaker: Breaker, attempts: Iterable[Attempt], rules: JobRules
) -> tuple[Breaker, LaunchesPaused] | None:
    """Publish the pause again with the console of one of its failed boots; None: without need.

    The reaper reads the console after the end of the attempt, which may have begun the pause.
    """
    if breaker.paused_until is None or _has_console(breaker.message or ""):
        return None
    messages = (each.error_message or "" for each in attempts if _is_within(breaker, each.ended_at))
    reason = next((each for each in messages if _has_console(each)), None)
    if reason is None:
        return None
    message = _message(breaker, reason)
    published = replace(breaker, sequence=breaker.sequence + 1, message=message)
    return published, _event(published, breaker.paused_until, rules)


def _has_console(message: str) -> bool:
    """Return whether *message* has the line of a console, not a note that it cannot be read."""
    return CONSOLE in message.replace(CONSOLE + NOTE, "")


def decide_claimed(breaker: Breaker, now: datetime) -> tuple[Breaker, LaunchesResumed | None]:
    """Forget the failures: an agent has claimed its job; end the pause."""
    closed = Breaker(
        sequence=breaker.sequence,
        shared_from=breaker.shared_from,
        shared_until=breaker.shared_until,
    )
    if breaker.paused_until is None:
        return closed, None
    closed = replace(
        closed, sequence=breaker.sequence + 1, shared_from=breaker.since, shared_until=now
    )
    return closed, LaunchesResumed(sequence=closed.sequence)


def decide_answer(breaker: Breaker, sequence: int) -> tuple[Breaker, LaunchesResumed] | None:
    """Answer a launcher that still waits for the end of pause *sequence*; None: it is right to.

    The event that ended it was lost, or the row is of a restored database.
    """
    if breaker.paused_until is not None and breaker.sequence >= sequence:
        return None
    after = max(breaker.sequence, sequence) + 1
    resumed = Breaker(
        sequence=after, shared_from=breaker.shared_from, shared_until=breaker.shared_until
    )
    return resumed, LaunchesResumed(sequence=after)


def describe(breaker: Breaker, now: datetime) -> str | None:
    """Return why launches are paused, without a word of a job; None: they are not."""
    if breaker.paused_until is None:
        return None
    until = f"until {to_the_second(breaker.paused_until)}"
    how = "but for one at a time, as a trial" if now >= breaker.paused_until else until
    change = f" ({breaker.to_change})" if breaker.to_change else ""
    return f"{PAUSED} {how}: {breaker.failures} instances in a row have not booted{change}"


def _is_trial(boot: FailedBoot, breaker: Breaker) -> bool:
    """Return whether it was launched after the pause: nearer to its end than to its start.

    The launch has the cloud's own time, and launchers get the pause a moment after its start.
    """
    if boot.launched_at is None or breaker.paused_at is None or breaker.paused_until is None:
        return False
    return boot.launched_at - breaker.paused_at > breaker.paused_until - boot.launched_at


def _paused(
    counted: Breaker, last: FailedBoot, now: datetime, jitter: float, rules: JobRules
) -> tuple[Breaker, LaunchesPaused]:
    until = now + timedelta(seconds=PAUSE.delay(counted.pauses + 1, jitter))
    changing = replace(counted, to_change=last.to_change)
    paused = replace(
        changing,
        pauses=counted.pauses + 1,
        sequence=counted.sequence + 1,
        paused_at=now,
        paused_until=until,
        message=_message(changing, last.reason),
    )
    return paused, _event(paused, until, rules)


def _message(breaker: Breaker, reason: str) -> str:
    shown = " ".join(reason.split())
    shown = shown if len(shown) <= REASON_CHARACTERS else f"{shown[: REASON_CHARACTERS - 1]}…"
    change = f" ({breaker.to_change})" if breaker.to_change else ""
    failures = f"{breaker.failures} instances in a row have not booted{change}"
    return f"{PAUSED}: {failures}{LAST_FAILURE}{shown}"


def _event(paused: Breaker, until: datetime, rules: JobRules) -> LaunchesPaused:
    return LaunchesPaused(
        sequence=paused.sequence,
        until=until,
        message=paused.message or PAUSED,
        failures=paused.failures,
        trial_seconds=rules.boot_seconds + TRIAL_MARGIN_SECONDS,
        to_change=paused.to_change,
    )
