"""A job's status in words, with the colour and the shape that go with them. Pure.

The documents are those of `/list` and `/status`. Fields that an older API does not have are
missing: the words get shorter then.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from docker_job.cli.figures import NOTHING, age, duration, instant, rough, until

OVER = frozenset({"DONE", "FAILED", "CANCELLED"})


class Look(NamedTuple):
    """The drawing of a status: its colour is never alone."""

    symbol: str
    colour: str


LOOKS = {
    "scheduled": Look("○", "bright_black"),
    "waiting": Look("…", "yellow"),
    "launching": Look("◔", "blue"),
    "booting": Look("◔", "blue"),
    "pulling": Look("◔", "blue"),
    "running": Look("●", "blue"),
    "stopping": Look("●", "blue"),
    "done": Look("✓", "green"),
    "failed": Look("✕", "red"),
    "cancelled": Look("\N{EN DASH}", "bright_black"),
    "interrupted": Look("↻", "magenta"),
}

# The beginning of a reason names what is waited for; the first that matches is used.
WAITS = (
    ("Spot quota", r"MaxSpotInstanceCountExceeded|Spot quota"),
    ("quota", r"LimitExceeded(?<!RequestLimitExceeded)|CountExceeded|quota"),
    ("cloud throttles", r"RequestLimitExceeded|Throttl|limit of calls|engine is busy"),
    ("no engine", r"no Docker engine"),
    ("Spot capacity", r"Spot.*capacity|capacity.*Spot"),
    ("capacity", r"[Cc]apacity"),
    ("earlier container", r"not known to have stopped|must be terminated|to be terminated"),
)
RETRY = re.compile(r"retry (\d+)( of \d+)?")
INTERRUPTED = re.compile(r"interrupt|reclaim|instance lost|restarted", re.IGNORECASE)
OVERDUE = re.compile(r"due (\d+ (?:min|h|d)).* ago;")
LONGEST = 40


def document(job: Any) -> Mapping[str, Any]:
    """Return the JSON document of *job*, which may be one itself."""
    return job if isinstance(job, Mapping) else job.raw


def look(job: Any) -> Look:
    """Return how the job's status is drawn."""
    shown = document(job)
    kind = str(shown.get("phase") or shown["status"]).lower()
    if kind in ("scheduled", "launching") and _is_interrupted(shown):
        kind = "interrupted"
    return LOOKS.get(kind, LOOKS["scheduled"])


def status_words(job: Any, now: datetime) -> str:
    """Render the status: `Exited (0) 2 min ago`, `Running 12m`, `Waiting: Spot quota`."""
    shown = document(job)
    if shown["status"] in OVER:
        return _over(shown, now)
    phase = str(shown.get("phase") or shown["status"]).lower()
    words = WORDS.get(phase)
    return phase.capitalize() if words is None else words(shown, now)


def waits_for(shown: Mapping[str, Any]) -> str:
    """Render in two or three words what a job waits for."""
    because = shown.get("waiting_because") or shown.get("status_reason") or ""
    for words, pattern in WAITS:
        if re.search(pattern, because):
            is_spot = words == "capacity" and shown.get("capacity") == "spot"
            return "Spot capacity" if is_spot else words
    return _cut(re.split(r"[;:]", because, maxsplit=1)[0]) or "not known"


def ran_for(shown: Mapping[str, Any], now: datetime) -> str:
    """Render how long the job has been running, or ran, from its first container's start."""
    seconds = shown.get("duration_seconds")
    started = instant(shown.get("started_at"))
    if started is not None and shown["status"] not in OVER:
        # The document may be some time old: a table that is redrawn counts on.
        seconds = max(0.0, (now - started).total_seconds())
    return duration(seconds)


def _over(shown: Mapping[str, Any], now: datetime) -> str:
    code, ended = shown.get("exit_code"), age(shown.get("finished_at"), now)
    if shown["status"] == "DONE":
        return f"Exited ({0 if code is None else code}) {ended}"
    if shown["status"] == "CANCELLED":
        return f"Cancelled {ended}"
    if str(shown.get("status_reason") or "").startswith("timed out"):
        return f"Timed out {ended}"
    return f"Failed {ended}" if code is None else f"Failed ({code}) {ended}"


def _running(shown: Mapping[str, Any], now: datetime) -> str:
    started = instant(shown.get("started_at"))
    return "Running" if started is None else f"Running {rough((now - started).total_seconds())}"


def _waiting(shown: Mapping[str, Any], _now: datetime) -> str:
    return f"Waiting: {waits_for(shown)}"


def _pulling(shown: Mapping[str, Any], _now: datetime) -> str:
    detail = str(shown.get("phase_detail") or "pulling").partition(",")
    # `1,200 MB` has a comma of its own.
    words = re.match(r"(pulling|extracting) [\d,]+ of [\d,]+ \wB", shown.get("phase_detail") or "")
    text = words.group() if words else detail[0]
    return _cut(text[:1].upper() + text[1:])


def _scheduled(shown: Mapping[str, Any], now: datetime) -> str:
    because = shown.get("waiting_because") or shown.get("status_reason") or ""
    retry = RETRY.search(because)
    if retry is None or shown.get("attempt", 1) == 1:
        return f"Scheduled {until(shown.get('scheduled_for'), now)}".removesuffix(f" {NOTHING}")
    at = until(shown.get("waiting_until"), now) if shown.get("waiting_until") else "soon"
    return f"Retry {retry.group(1)}{retry.group(2) or ''} {at}"


def _launching(shown: Mapping[str, Any], _now: datetime) -> str:
    """Render since when it is due, if that is long: its launch has met with trouble."""
    due = OVERDUE.match(shown.get("waiting_because") or "")
    return f"Launching, due {due.group(1)} ago" if due else "Launching"


def _is_interrupted(shown: Mapping[str, Any]) -> bool:
    because = shown.get("waiting_because") or shown.get("status_reason") or ""
    return shown.get("attempt", 1) > 1 and INTERRUPTED.search(because) is not None


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1].rstrip()}…"


WORDS = {
    "launching": _launching,
    "pulling": _pulling,
    "running": _running,
    "scheduled": _scheduled,
    "waiting": _waiting,
}
"""The words of a phase, where they are more than its name."""
