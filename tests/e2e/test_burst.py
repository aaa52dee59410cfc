"""Many jobs due at the same second, on the simulator."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.support.systems.embedded_system import EmbeddedSystem

LONGEST_SECONDS = 60


def test_five_hundred_jobs_due_at_the_same_second_are_all_done_within_a_minute() -> None:
    be_done_in_time(500)


@pytest.mark.campaign
@pytest.mark.timeout(300)
def test_two_thousand_jobs_due_at_the_same_second_are_all_done_within_a_minute() -> None:
    be_done_in_time(2_000)


def be_done_in_time(jobs: int) -> None:
    """Post so many for the same second, and see when the last is done."""
    system = EmbeddedSystem(COMPUTE_URL="sim://?seed=7", LOG_LEVEL="warning")
    try:
        assert "simulator" in system.start()
        due_at = datetime.now(UTC) + timedelta(seconds=5)
        body = {"docker_image": "alpine", "scheduled_for": due_at.isoformat()}
        for _ in range(jobs // 500):
            assert system.http.post("/schedule", json=[body] * 500).status_code == 201
        last = due_at
        for job in system.jobs():
            ended = system.follow(job["id"], seconds=60)
            assert ended["status"] == "DONE", ended
            last = max(last, datetime.fromisoformat(ended["finished_at"]))
        took = (last - due_at).total_seconds()
        print(f"\n{jobs} jobs due at once: all DONE after {took:.1f} s, {jobs / took:.0f} jobs/s")
        assert took <= LONGEST_SECONDS
    finally:
        system.close()
