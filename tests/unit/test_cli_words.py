"""Durations, money, ages and statuses, as the command line words them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from docker_job.cli.figures import age, clock, duration, money, until
from docker_job.cli.status_words import LOOKS, look, ran_for, status_words

NOW = datetime(2026, 11, 30, 14, 30, tzinfo=UTC)


def ago(**parts: float) -> str:
    return (NOW - timedelta(**parts)).isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "–"),
        (0, "0s"),
        (0.42, "0.4s"),
        (0.99, "1s"),
        (52, "52s"),
        (60, "1m"),
        (252, "4m12s"),
        (3600, "1h"),
        (7380.9, "2h3m"),
        (90_000, "1d1h"),
        (-3, "0s"),
    ],
)
def test_a_duration_is_its_two_greatest_units(seconds: float | None, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("usd", "shown"),
    [
        (None, "–"),
        (0, "0"),
        (1.912, "1.912"),
        (0.0312, "0.031"),
        (0.002, "0.002"),
        (0.0023, "0.0023"),
        (0.0004, "0.0004"),
        (0.00000001, "<0.0001"),
        (1234.5, "1234.500"),
    ],
)
def test_money_has_four_digits_below_a_cent_and_is_never_0_if_unknown(
    usd: float | None, shown: str
) -> None:
    assert money(usd) == shown


@pytest.mark.parametrize(
    ("parts", "shown"),
    [
        ({"seconds": 40}, "40s ago"),
        ({"minutes": 2}, "2 min ago"),
        ({"hours": 2, "minutes": 50}, "2h ago"),
        ({"days": 5}, "5d ago"),
        ({"seconds": -2}, "0s ago"),
    ],
)
def test_an_age_is_its_greatest_unit(parts: dict[str, float], shown: str) -> None:
    assert age(ago(**parts), NOW) == shown


def test_a_time_ahead_is_in_so_long_or_now() -> None:
    assert until(ago(hours=-3), NOW) == "in 3h"
    assert until(ago(hours=-2, minutes=-59), NOW) == "in 3h"
    assert until(ago(minutes=-5), NOW) == "in 5 min"
    assert until(ago(minutes=5), NOW) == "now"


def test_a_time_of_another_day_has_its_day(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(clock(NOW, NOW)) == len("14:30")
    assert clock(NOW - timedelta(days=3), NOW).startswith("Nov 27 ")
    assert clock(NOW - timedelta(days=500), NOW) == "2025-07-18"
    assert clock(None, NOW) == "–"


def job(**fields: Any) -> dict[str, Any]:
    return {"id": 7, "docker_image": "alpine", "status": "SCHEDULED", "attempt": 1, **fields}


def waiting(because: str, **fields: Any) -> dict[str, Any]:
    return job(phase="waiting", waiting_because=because, **fields)


def ended(status: str, **fields: Any) -> dict[str, Any]:
    return job(status=status, phase=status.lower(), finished_at=ago(minutes=2), **fields)


@pytest.mark.parametrize(
    ("shown", "words", "symbol"),
    [
        (ended("DONE", exit_code=0), "Exited (0) 2 min ago", "✓"),
        (ended("FAILED", exit_code=1), "Failed (1) 2 min ago", "✕"),
        (ended("FAILED", exit_code=None), "Failed 2 min ago", "✕"),
        (ended("FAILED", status_reason="timed out after 60 s"), "Timed out 2 min ago", "✕"),
        (ended("CANCELLED", exit_code=137), "Cancelled 2 min ago", "–"),
        (job(status="RUNNING", phase="running", started_at=ago(minutes=12)), "Running 12m", "●"),
        (job(status="RUNNING", phase="running"), "Running", "●"),
        (job(status="RUNNING", phase="stopping"), "Stopping", "●"),
        (job(phase="scheduled", scheduled_for=ago(hours=-3)), "Scheduled in 3h", "○"),
        (job(phase="launching"), "Launching", "◔"),
        (
            job(phase="launching", waiting_because="due 12 s ago; no launch reported yet"),
            "Launching",
            "◔",
        ),
        (
            job(phase="launching", waiting_because="due 2 h 5 min ago; the broker does not work"),
            "Launching, due 2 h ago",
            "◔",
        ),
        (job(phase="booting"), "Booting", "◔"),
        (job(phase="pulling"), "Pulling", "◔"),
        (
            job(phase="pulling", phase_detail="pulling 340 of 1,200 MB, 5 of 9 layers"),
            "Pulling 340 of 1,200 MB",
            "◔",
        ),
        (
            job(
                phase="scheduled",
                attempt=3,
                waiting_because="retry 2 of 3 at 14:30:40Z: image pull failed: no such host",
                waiting_until=ago(seconds=-40),
            ),
            "Retry 2 of 3 in 40s",
            "○",
        ),
        (
            job(phase="launching", attempt=2, waiting_because="x; retry 1 of 20: interrupted"),
            "Launching",
            "↻",
        ),
        (job(status="DONE", phase=None, finished_at=ago(minutes=2)), "Exited (0) 2 min ago", "✓"),
        (job(phase="a phase that a later API has"), "A phase that a later api has", "○"),
    ],
)
def test_a_status_is_words_and_a_shape(shown: dict[str, Any], words: str, symbol: str) -> None:
    assert status_words(shown, NOW) == words
    seen = {**shown, "phase": shown["phase"] or shown["status"]}
    assert look(seen).symbol == symbol


@pytest.mark.parametrize(
    ("because", "words"),
    [
        ("MaxSpotInstanceCountExceeded: Max spot instance count exceeded", "Spot quota"),
        ("VcpuLimitExceeded: You have requested more vCPU capacity", "quota"),
        ("RequestLimitExceeded: Request limit exceeded.", "cloud throttles"),
        ("EC2 has no more Spot capacity now in eu-west-1a; retry 1 of 20", "Spot capacity"),
        ("InsufficientInstanceCapacity", "Spot capacity"),
        ("no Docker engine answers at unix:///x: refused", "no engine"),
        ("SomethingNew: with a text", "SomethingNew"),
        ("x" * 80, "x" * 39 + "…"),
        ("", "not known"),
    ],
)
def test_what_a_job_waits_for_is_two_words(because: str, words: str) -> None:
    assert status_words(waiting(because, capacity="spot"), NOW) == f"Waiting: {words}"


def test_a_running_jobs_duration_counts_on_and_that_of_a_job_that_is_over_does_not() -> None:
    running = job(status="RUNNING", started_at=ago(seconds=90), duration_seconds=5)
    assert ran_for(running, NOW) == "1m30s"
    assert ran_for(ended("DONE", started_at=ago(hours=1), duration_seconds=5), NOW) == "5s"
    assert ran_for(job(), NOW) == "–"


def test_no_two_kinds_of_status_that_mean_different_things_have_one_shape_and_colour() -> None:
    kinds = {name: each for name, each in LOOKS.items() if name not in ("booting", "pulling")}
    kinds.pop("stopping")
    assert len(set(kinds.values())) == len(kinds)
