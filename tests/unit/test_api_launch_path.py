"""The reasons why a due job cannot be launched, as the API sees the other services."""

import pytest

from services.api.jobs.launch_path import LaunchPath, decide_trouble
from services.api.jobs.model import Attempt
from services.api.jobs.waiting import waiting
from shared.runtime.readiness import Readiness
from tests.support.api.api_story import NOW, a_job, after, an_attempt

ALL = {"api": 1, "scheduler": 1, "launcher": 2, "reaper": 1}


@pytest.mark.parametrize(
    ("troubles", "readers", "reason"),
    [
        ({}, ALL, None),
        ({}, {**ALL, "reaper": 0}, None),
        ({}, {**ALL, "scheduler": 0}, "the scheduler is not running"),
        ({}, {**ALL, "launcher": 0}, "the launcher is not running"),
        (
            {"queue launcher": "…"},
            {**ALL, "launcher": None},
            "the broker has no queue for the launcher: the migration must run",
        ),
        (
            {"bus": "…"},
            {},
            "the broker does not work now: events wait until it does",
        ),
        ({"database": "…"}, ALL, None),
    ],
)
def test_the_first_thing_that_is_away_is_named(
    troubles: dict[str, str], readers: dict[str, int | None], reason: str | None
) -> None:
    assert decide_trouble(Readiness(troubles, readers)) == reason


async def test_before_the_first_look_nothing_is_claimed() -> None:
    async def look() -> Readiness:
        return Readiness({}, {**ALL, "scheduler": 0})

    path = LaunchPath(look)
    assert path.trouble() is None
    await path.watch()
    assert path.trouble() == "the scheduler is not running"


@pytest.mark.parametrize(
    ("attempt", "because"),
    [
        (an_attempt(due_at=after(-12)), "due 12 s ago; the scheduler is not running"),
        (
            an_attempt(
                state="delayed", due_at=after(-12), waiting_because="no capacity in 3 pools"
            ),
            "the scheduler is not running; before that: no capacity in 3 pools",
        ),
        (an_attempt(due_at=after(60)), "it is scheduled for 2026-01-01T00:01:00Z"),
    ],
)
def test_a_due_job_says_what_is_away(attempt: Attempt, because: str) -> None:
    assert waiting(a_job(), attempt, NOW, "the scheduler is not running")[0] == because
