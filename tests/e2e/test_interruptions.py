"""Jobs whose instances are interrupted: each ends once, and no two of its containers overlap."""

from collections import Counter
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest

from tests.support.systems.embedded_system import EmbeddedSystem
from tests.support.waiting import until

JOBS = 60
MARKET = "sim://?seed=11&interrupted=0.5&interrupted_within_seconds=4&notice_seconds=2.2"


def parse_time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def running_since(attempt: dict[str, Any]) -> datetime | None:
    for phase in attempt["phases"]:
        if phase["phase"] == "running":
            return parse_time(phase["entered_at"])
    return None


def when_all_are_terminated(system: EmbeddedSystem, job_id: int) -> dict[str, Any]:
    """Return the job, once the cloud has confirmed that each of its instances is terminated."""
    until(lambda: all_terminated(system.job(job_id)), what=f"{job_id}: an instance is left")
    return system.job(job_id)


def all_terminated(job: dict[str, Any]) -> bool:
    launched = [each for each in job["attempts"] if each["instance_id"] is not None]
    return all(each["instance_gone_at"] is not None for each in launched)


@pytest.mark.timeout(300)
def test_interrupted_jobs_are_all_done_and_never_run_twice_at_once() -> None:
    system = EmbeddedSystem(
        COMPUTE_URL=MARKET,
        LOG_LEVEL="warning",
        HEARTBEAT_SECONDS="0.5",
        INTERRUPTION_MARGIN_SECONDS="1",
        RETRY_FIRST_SECONDS="0.2",
    )
    try:
        system.start()
        body = {
            "docker_image": "alpine",
            "scheduled_for": "now",
            "env_vars": {"SIMULATE_SECONDS": "2.5"},
        }
        assert system.http.post("/schedule", json=[body] * JOBS).status_code == 201
        jobs = [system.follow(job["id"], seconds=120) for job in system.jobs()]
        jobs = [when_all_are_terminated(system, job["id"]) for job in jobs]
    finally:
        system.close()

    causes = Counter(each["cause"] for job in jobs for each in job["attempts"])
    print(f"\n{JOBS} jobs on a market that takes every second instance: {dict(causes)}")
    assert {job["status"] for job in jobs} == {"DONE"}
    assert causes["done"] == JOBS
    assert causes["interrupted"] > 0
    assert causes["superseded"] > 0, "none of them finished in its last seconds"
    wasted = sum(job["wasted_usd"] or 0 for job in jobs)
    assert 0 <= wasted < sum(job["cost_usd"] for job in jobs)
    for job in jobs:
        ran = [each for each in job["attempts"] if running_since(each) is not None]
        for before, after in pairwise(ran):
            since = running_since(after)
            assert since is not None
            assert since >= parse_time(before["ended_at"])
