"""The JSON documents of jobs, as `/schedule`, `/status` and `/list` answer with them."""

import functools
import operator
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.structs import asdict

from services.api.jobs.columns import NAMES
from services.api.jobs.costs import cost_of, cost_of_all, rounded
from services.api.jobs.listed import ListedJob
from services.api.jobs.model import (
    PHASES,
    TERMINAL,
    Attempt,
    Job,
    JobRules,
    JobWithAttempts,
    first_attempt,
)
from services.api.jobs.reasons import reason_beside
from services.api.jobs.retry_limits import retries_used
from services.api.jobs.waiting import is_due, waiting
from shared.events.costs import UNKNOWN_PRICES, CostLines
from shared.events.requirements import Resources


def listed(row: ListedJob, now: datetime, trouble: str | None = None) -> dict[str, Any]:
    """Render a job as `/list` shows it, with the main fields of its current attempt.

    *trouble* is why no due job can be launched now.
    """
    shown = _shown(row, row, now, trouble, row.started_at)
    shown["cost_usd"] = rounded(row.cost_usd)
    shown["attempts"] = row.attempts
    return shown


def shown_to(shown: dict[str, Any], *, values: bool) -> dict[str, Any]:
    """Return a document of a job; unless *values*, with null for each value of `env_vars`.

    Of `secret_env` there are the names alone in any case.
    """
    if values or not shown["env_vars"]:
        return shown
    given = shown["env_vars"]
    names = msgspec.json.decode(given, type=dict[str, str]) if isinstance(given, Raw) else given
    return {**shown, "env_vars": dict.fromkeys(names)}


def _shown(
    job: Job | ListedJob,
    attempt: Attempt | ListedJob,
    now: datetime,
    trouble: str | None,
    started_at: datetime | None,
) -> dict[str, Any]:
    because, until = waiting(job, attempt, now, trouble)
    return {
        "id": job.id,
        **_given(job),
        "status": job.status,
        "status_reason": reason_beside(job, attempt, because),
        "phase": phase(job, attempt, now),
        "phase_detail": attempt.phase_detail or None,
        "waiting_because": because,
        "waiting_until": until,
        "attempt": job.attempt,
        "runtime": attempt.runtime,
        "instance_id": attempt.instance_id,
        "spot_instance_request_id": attempt.spot_instance_request_id,
        "exit_code": job.exit_code,
        "error_message": job.error_message,
        "created_at": job.created_at,
        "started_at": started_at,
        "finished_at": job.finished_at,
        "duration_seconds": _duration(started_at, job.finished_at or now),
    }


def _duration(started_at: datetime | None, end: datetime) -> float | None:
    if started_at is None:
        return None
    return round(max(0.0, (end - started_at).total_seconds()), 3)


def started_at(attempts: Iterable[Attempt]) -> datetime | None:
    """Return the time when a container of the job first ran."""
    return min((each.running_at for each in attempts if each.running_at is not None), default=None)


UNKNOWN_LINES = CostLines()
_values_of = operator.attrgetter(*NAMES)
_DEFAULT_RESOURCES = Resources()


def _given(job: Job | ListedJob) -> dict[str, Any]:
    """Return the fields that the client gave, in the order of their declaration."""
    given = (
        job.given if isinstance(job, ListedJob) else dict(zip(NAMES, _values_of(job), strict=True))
    )
    asked = given["resources"]
    # Raw is read here, since its hash would be that of the object.
    key = bytes(asked) if isinstance(asked, Raw) else asked
    return {**given, "resources": {} if key == _DEFAULT_RESOURCES else _requested(key)}


@functools.lru_cache(maxsize=256)
def _requested(resources: Resources | bytes) -> dict[str, Any]:
    """Render the requested resources without defaults. Cached: most jobs request the same."""
    if isinstance(resources, bytes):
        resources = msgspec.json.decode(resources, type=Resources)
    fields = ((name, getattr(resources, name)) for name in Resources.__struct_fields__)
    return {name: value for name, value in fields if value not in (None, ())}


_NO_CONSOLES: Mapping[int, str] = {}


def detailed(
    job: Job,
    attempts: list[Attempt],
    now: datetime,
    rules: JobRules,
    trouble: str | None = None,
    consoles: Mapping[int, str] = _NO_CONSOLES,
) -> dict[str, Any]:
    """Render a job as `/status` shows it: with every attempt in order, retry limits and costs.

    *consoles*: what an attempt's instance has printed, by number.
    """
    current = next(each for each in attempts if each.number == job.attempt)
    shown = _shown(job, current, now, trouble, started_at(attempts))
    shown["budgets"] = retries_used(JobWithAttempts(job, tuple(attempts)), rules)
    shown |= cost_of_all(attempts)
    shown["attempts"] = [_attempt(each, now, consoles.get(each.number)) for each in attempts]
    return shown


def fresh(job: Job, first: Attempt, rules: JobRules) -> dict[str, Any]:
    """Render a job that is accepted now like `detailed`, in a fifth of the time.

    The common parts are rendered once and shared between documents: do not change the result.
    """
    now = job.created_at
    because, until = waiting(job, first, now)
    current = _phase(first, now)
    template = _template(job.retries, rules)
    [attempt] = template["attempts"]
    [entered] = attempt["phases"]
    started = {"phase": current, "due_at": first.due_at, "phases": [entered | {"entered_at": now}]}
    return template | {
        "id": job.id,
        **_given(job),
        "status_reason": reason_beside(job, first, because),
        "phase": current,
        "waiting_because": because,
        "waiting_until": until,
        "created_at": now,
        "attempts": [attempt | started],
    }


@functools.lru_cache(maxsize=256)
def _template(retries: int, rules: JobRules) -> dict[str, Any]:
    at = datetime.fromtimestamp(0, UTC)
    job = Job(
        id=0,
        name=None,
        docker_image="",
        command=None,
        env_vars={},
        labels={},
        scheduled_for=at,
        timezone="",
        timeout_seconds=None,
        status="SCHEDULED",
        attempt=1,
        trace="",
        created_at=at,
        retries=retries,
    )
    return detailed(job, [first_attempt(job.id, at, at)], at, rules)


def phase(job: Job | ListedJob, attempt: Attempt | ListedJob, now: datetime) -> str:
    """Return the job's phase: finer than its status, which it is in lower case once terminal."""
    if job.status in TERMINAL:
        return job.status.lower()
    return _phase(attempt, now)


def _phase(attempt: Attempt | ListedJob, now: datetime) -> str:
    return "launching" if is_due(attempt, now) else PHASES.get(attempt.state, "ended")


def _attempt(attempt: Attempt, now: datetime, console: str | None) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "phase": _phase(attempt, now),
        "phase_detail": attempt.phase_detail or None,
        "due_at": attempt.due_at,
        "cause": attempt.cause,
        "exit_code": attempt.exit_code,
        "error_message": attempt.error_message,
        "boot_failed": attempt.boot_failed or False,
        "console_output": console,
        "waiting_because": attempt.waiting_because,
        "runtime": attempt.runtime,
        "instance_id": attempt.instance_id,
        "instance_type": attempt.instance_type,
        "zone": attempt.zone,
        "market": attempt.market,
        "hourly_price_usd": attempt.hourly_price_usd,
        "on_demand_hourly_price_usd": attempt.on_demand_hourly_price_usd,
        "spot_instance_request_id": attempt.spot_instance_request_id,
        "interrupted_at": attempt.interrupted_at,
        "rebalance_at": attempt.rebalance_at,
        "ended_at": attempt.ended_at,
        "instance_gone_at": attempt.instance_gone_at,
        "billed_seconds": attempt.billed_seconds,
        **cost_of(attempt),
        "cost_lines": asdict(attempt.cost_lines or UNKNOWN_LINES),
        "other_prices": asdict(attempt.other_prices or UNKNOWN_PRICES),
        "phases": _durations(attempt, now),
    }


def _durations(attempt: Attempt, now: datetime) -> list[dict[str, Any]]:
    """Render the duration of each phase in order; the current one lasts up to *now*."""
    entered = _entered(attempt, attempt.ended_at or now)
    times = [(state, entered[state]) for state in PHASES if state in entered]
    ends = [at for _, at in times[1:]] + [attempt.ended_at or now]
    return [
        {
            "phase": PHASES[state],
            "entered_at": at,
            # A launch is reported with the cloud's own clock, which may run ahead of ours.
            "seconds": round(max(0.0, (end - at).total_seconds()), 3),
        }
        for (state, at), end in zip(times, ends, strict=True)
    ]


def _entered(attempt: Attempt, end: datetime) -> dict[str, datetime]:
    """Return when each state began; `requested` began at the due time, for which there is no event.

    Attempts of earlier releases have it from the event that there was then.
    """
    entered = attempt.entered
    if "scheduled" not in entered or "requested" in entered:
        return entered
    due_at = max(attempt.due_at, entered["scheduled"])
    later = [at for state, at in entered.items() if state not in ("held", "scheduled")]
    return entered | {"requested": due_at} if due_at < min(later, default=end) else entered
