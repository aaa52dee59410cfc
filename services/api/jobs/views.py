"""Jobs as the JSON that people read."""

import functools
import operator
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Raw

from services.api.jobs.columns import NAMES
from services.api.jobs.costs import cost_of, cost_of_all
from services.api.jobs.model import (
    PHASES,
    TERMINAL,
    Attempt,
    Case,
    Job,
    Listed,
    Rules,
    first_attempt,
)
from services.api.jobs.retry_limits import spent
from shared.events.events import Resources

_SHOWN_PHASES = (
    "held",
    "scheduled",
    "requested",
    "delayed",
    "booting",
    "pulling",
    "running",
    "stopping",
)


def listed(job: Job | Listed, attempt: Attempt | Listed, now: datetime) -> dict[str, Any]:
    """A job as `/list` shows it: itself and what matters of its current attempt."""
    because, until = waiting(job, attempt, now)
    return {
        "id": job.id,
        **_given(job),
        "status": job.status,
        "phase": phase(job, attempt, now),
        "waiting_because": because,
        "waiting_until": until,
        "attempt": job.attempt,
        "runtime": attempt.runtime,
        "instance_id": attempt.instance_id,
        "spot_instance_request_id": attempt.spot_instance_request_id,
        "exit_code": job.exit_code,
        "error_message": job.error_message,
        "created_at": job.created_at,
        "finished_at": job.finished_at,
    }


_values_of = operator.attrgetter(*NAMES)


def _given(job: Job | Listed) -> dict[str, Any]:
    """The fields that the client gave, in the order of their declaration."""
    given = job.given if isinstance(job, Listed) else dict(zip(NAMES, _values_of(job), strict=True))
    asked = given["resources"]
    # Raw is read here, since its hash would be that of the object.
    key = bytes(asked) if isinstance(asked, Raw) else asked
    return {**given, "resources": {} if key == _NO_WISH else _resources(key)}


@functools.lru_cache(maxsize=256)
def _resources(resources: Resources | bytes) -> dict[str, Any]:
    """What was asked for; the rest is the deployment's default. Most jobs ask for the same."""
    if isinstance(resources, bytes):
        resources = msgspec.json.decode(resources, type=Resources)
    fields = ((name, getattr(resources, name)) for name in Resources.__struct_fields__)
    return {name: value for name, value in fields if value not in (None, ())}


def detailed(job: Job, attempts: list[Attempt], now: datetime, rules: Rules) -> dict[str, Any]:
    """A job as `/status` shows it: with every attempt, the first one first, budgets and costs."""
    current = next(each for each in attempts if each.number == job.attempt)
    shown = listed(job, current, now)
    shown["budgets"] = spent(Case(job, tuple(attempts)), rules)
    shown |= cost_of_all(attempts)
    shown["attempts"] = [_attempt(each, now) for each in attempts]
    return shown


def fresh(job: Job, first: Attempt, rules: Rules) -> dict[str, Any]:
    """As `detailed` shows a job that is accepted now, in a fifth of the time.

    What every such job has in common is rendered once; the rest is filled in. It shares parts with
    other jobs' documents: only read it.
    """
    now = job.created_at
    because, until = waiting(job, first, now)
    current = _phase(first, now)
    blank = _blank(job.retries, rules)
    [attempt] = blank["attempts"]
    [entered] = attempt["phases"]
    return blank | {
        "id": job.id,
        **_given(job),
        "phase": current,
        "waiting_because": because,
        "waiting_until": until,
        "created_at": now,
        "attempts": [
            attempt
            | {
                "phase": current,
                "due_at": first.due_at,
                "phases": [entered | {"entered_at": now}],
            }
        ],
    }


_NO_WISH = Resources()


@functools.lru_cache(maxsize=256)
def _blank(retries: int, rules: Rules) -> dict[str, Any]:
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


def phase(job: Job | Listed, attempt: Attempt | Listed, now: datetime) -> str:
    """Where the job is, finer than its status; of a finished job, its status in small letters."""
    if job.status in TERMINAL:
        return job.status.lower()
    return _phase(attempt, now)


def _phase(attempt: Attempt | Listed, now: datetime) -> str:
    return "launching" if _is_due(attempt, now) else PHASES.get(attempt.state, "ended")


def _is_due(attempt: Attempt | Listed, now: datetime) -> bool:
    """Whether its time has come and nothing was heard of a launch: the API is told of no more."""
    return attempt.state == "requested" or (attempt.state == "scheduled" and attempt.due_at <= now)


def waiting(
    job: Job | Listed, attempt: Attempt | Listed, now: datetime
) -> tuple[str | None, datetime | None]:
    """What the job waits for, in plain words, and when it is looked at next."""
    if job.status in TERMINAL:
        return None, None
    if attempt.waiting_because is not None:
        return attempt.waiting_because, attempt.waiting_until
    if _is_due(attempt, now):
        return f"due {_ago(attempt.due_at, now)} ago; no launch reported yet", None
    if attempt.state == "scheduled":
        return _until(attempt.due_at), attempt.due_at
    if attempt.state == "booting" and attempt.heartbeat_at is None:
        return f"instance {attempt.instance_id} is booting", attempt.check_at
    return None, None


def _seconds(at: datetime) -> str:
    """A moment in UTC without its fraction; strftime takes ten times as long."""
    return f"{msgspec.to_builtins(at)[:19]}Z"


@functools.lru_cache(maxsize=256)  # the jobs of one request often have it in common
def _until(due_at: datetime) -> str:
    return f"it is scheduled for {_seconds(due_at)}"


def _ago(moment: datetime, now: datetime) -> str:
    """How long ago *moment* was, in its two greatest units."""
    seconds = max(0, int((now - moment).total_seconds()))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"


def _attempt(attempt: Attempt, now: datetime) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "phase": _phase(attempt, now),
        "due_at": attempt.due_at,
        "cause": attempt.cause,
        "exit_code": attempt.exit_code,
        "error_message": attempt.error_message,
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
        "phases": _durations(attempt, now),
    }


def _durations(attempt: Attempt, now: datetime) -> list[dict[str, Any]]:
    """How long each phase took, in the order they came; the one under way up to *now*."""
    entered = _entered(attempt, attempt.ended_at or now)
    times = [(state, entered[state]) for state in _SHOWN_PHASES if state in entered]
    ends = [at for _, at in times[1:]] + [attempt.ended_at or now]
    return [
        {
            "phase": PHASES[state],
            "entered_at": at,
            # A launch is told with the cloud's own clock, which may run ahead of ours.
            "seconds": round(max(0.0, (end - at).total_seconds()), 3),
        }
        for (state, at), end in zip(times, ends, strict=True)
    ]


def _entered(attempt: Attempt, end: datetime) -> dict[str, datetime]:
    """When each state began; `requested` when its time came, which no event tells of.

    Attempts of earlier releases have it, from the event that told of it then.
    """
    entered = attempt.entered
    if "scheduled" not in entered or "requested" in entered:
        return entered
    due_at = max(attempt.due_at, entered["scheduled"])
    later = [at for state, at in entered.items() if state not in ("held", "scheduled")]
    return entered | {"requested": due_at} if due_at < min(later, default=end) else entered
