"""A job for reading: its facts, why it is where it is, its attempts drawn to scale. Pure."""

import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from docker_job.cli.output.figures import NOTHING, clock, duration, money
from docker_job.cli.output.render import Column, Row
from docker_job.cli.output.status_words import look, ran_for, status_words

BAR = 40
SHADES = {
    "scheduled": "·",
    "waiting": "╌",
    "launching": "░",
    "booting": "▒",
    "pulling": "▓",
    "running": "█",
    "stopping": "▒",
}
LEGEND = "· scheduled  ╌ waiting  ░ launching  ▒ booting, stopping  ▓ pulling  █ running"
LINES = {"instance_usd": "instances", "public_ipv4_usd": "public IPv4", "volume_usd": "volumes"}
GIVEN = ("capacity", "retries", "user", "working_dir", "rerun_of")


def facts(job: Row, now: datetime) -> list[tuple[str, str]]:
    """Return what is to be known of a job, name and text."""
    because = str(job.get("status_reason") or job.get("waiting_because") or "")
    error = str(job.get("error_message") or "").strip()
    found = [
        ("Job", f"{job['id']} · {job['name']}" if job.get("name") else str(job["id"])),
        ("Image", str(job["docker_image"])),
        ("Command", shlex.join(job["command"]) if job.get("command") else ""),
        ("Labels", ", ".join(f"{name}={value}" for name, value in _pairs(job, "labels"))),
        ("Variables", ", ".join(_variable(*each) for each in _pairs(job, "env_vars"))),
        ("Project", _project(job)),
        ("Status", f"{look(job).symbol} {status_words(job, now)}"),
        ("Because", because),
        ("Error", "" if error in because else error),
        ("Console", _console(job)),
        ("Scheduled", clock(job.get("scheduled_for"), now).replace(NOTHING, "")),
        ("Started", clock(job["started_at"], now) if job.get("started_at") else ""),
        ("Duration", ran_for(job, now).replace(NOTHING, "")),
        ("Cost", _cost(job)),
        ("Time limit", duration(job["timeout_seconds"]) if _has(job, "timeout_seconds") else ""),
        ("Resources", ", ".join(f"{name} {value}" for name, value in _pairs(job, "resources"))),
    ]
    found += [
        (name.replace("_", " ").capitalize(), str(job[name])) for name in GIVEN if _has(job, name)
    ]
    return [(name, text) for name, text in found if text]


def attempt_columns(job: Row) -> list[Column]:
    """Return the columns of a table of the job's attempts, whose bars have one scale."""
    longest = max((_length(each) for each in job.get("attempts") or ()), default=0.0)
    return [
        Column("TRY", lambda each: str(each["number"])),
        Column("TIME", lambda each: bar(each.get("phases") or (), longest)),
        Column("", lambda each: duration(_length(each)), name="Duration"),
        Column("END", _end),
        Column("INSTANCE", _instance, narrowest=12),
        Column("COST", lambda each: money(each.get("cost_usd")), is_right=True),
    ]


def bar(phases: Sequence[Mapping[str, Any]], longest: float) -> str:
    """Draw phases one after the other; a phase that took any time has a sign at least."""
    if longest <= 0:
        return ""
    drawn = ""
    for each in phases:
        seconds = float(each.get("seconds") or 0)
        signs = max(1, round(BAR * seconds / longest)) if seconds >= 0.05 else 0
        drawn += SHADES.get(str(each.get("phase")), "?") * signs
    return drawn


def _length(attempt: Row) -> float:
    return sum(float(each.get("seconds") or 0) for each in attempt.get("phases") or ())


def _console(job: Row) -> str:
    """Return what the last instance that did not boot has printed, and of which attempt that is."""
    for each in reversed(job.get("attempts") or ()):
        if each.get("console_output"):
            return f"of attempt {each['number']}:\n{each['console_output']}"
    return ""


def _end(attempt: Row) -> str:
    if not attempt.get("cause"):
        return str(attempt.get("phase") or NOTHING)
    if attempt.get("boot_failed"):
        return "did not boot"
    code = attempt.get("exit_code")
    return f"{attempt['cause']} ({code})" if code is not None else str(attempt["cause"])


def _instance(attempt: Row) -> str:
    market = {"spot": "Spot", "on-demand": "on demand"}.get(str(attempt.get("market")))
    parts = (attempt.get("instance_type"), market, attempt.get("zone"), attempt.get("instance_id"))
    return " ".join(str(each) for each in parts if each) or NOTHING


def _cost(job: Row) -> str:
    if job.get("cost_usd") is None:
        return ""
    on_demand = job.get("on_demand_usd")
    beside = f" ({money(on_demand)} on demand)" if on_demand else ""
    lines = _lines(job)
    return f"{money(job['cost_usd'])} USD{beside}{lines and f': {lines}'}"


def _lines(job: Row) -> str:
    """Render the parts of the cost; nothing if one of them is not known."""
    found = [each["cost_lines"] for each in job.get("attempts") or () if each.get("cost_lines")]
    billed = [each for each in found if any(usd is not None for usd in each.values())]
    if any(each.get(name) is None for each in billed for name in LINES) or not billed:
        return ""
    sums = {LINES[name]: sum(each[name] for each in billed) for name in LINES}
    if not any(usd for name, usd in sums.items() if name != LINES["instance_usd"]):
        return ""
    return ", ".join(f"{name} {money(usd)}" for name, usd in sums.items())


HIDDEN = "(hidden)"
"""Stands for a value that the key may not see."""


def _variable(name: str, value: str | None) -> str:
    return f"{name}={HIDDEN if value is None else value}"


def _project(job: Row) -> str:
    """Return the project and the key; nothing where keys are not used."""
    key = job.get("created_by")
    return f"{job['project']}, scheduled with the key {key}" if key else ""


def _pairs(job: Row, name: str) -> list[tuple[str, Any]]:
    return list((job.get(name) or {}).items())


def _has(job: Row, name: str) -> bool:
    return job.get(name) not in (None, 0, "")
