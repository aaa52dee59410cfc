"""A plan on the whole system: the launcher publishes its prices, and the job gets what it said."""

from typing import Any

import pytest

from tests.support.systems.embedded_system import EmbeddedSystem
from tests.support.waiting import until

BODY = {"docker_image": "alpine", "scheduled_for": "now", "expected_seconds": 60}


def plan(system: EmbeddedSystem) -> dict[str, Any]:
    answer = system.http.post("/plan", json=BODY)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("url", ["process://", "sim://?seed=7"])
def test_a_job_gets_the_first_choice_of_its_plan(system: EmbeddedSystem, url: str) -> None:
    system.start(DOCKER_JOB_COMPUTE_URL=url)
    until(lambda: plan(system)["choices"], what="prices")
    planned = plan(system)
    first = planned["choices"][0]
    assert (planned["message"], planned["likely_start_from"]) == (None, "default")
    assert system.jobs() == [], "a plan schedules nothing"
    job = system.follow(system.schedule())
    [attempt] = job["attempts"]
    for field in ("instance_type", "zone", "market", "hourly_price_usd"):
        assert attempt[field] == first[field]
    after = plan(system)
    assert after["likely_start_from"] == "recent_jobs"
    assert 0 <= after["likely_start_seconds"] < 60
    assert system.interrupt() == 0
