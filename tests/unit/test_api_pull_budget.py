"""The budget of pulls: a count, and a time that a registry may be away whatever the count."""

from datetime import datetime

import pytest
from msgspec.structs import replace

from services.api.jobs.waiting import waiting
from tests.support.api.api_story import (
    FAILED,
    NO_SUCH_IMAGE,
    PULL_FAILED,
    RULES,
    Story,
    a_job,
    after,
    launched,
)

MINUTE = 60.0
TWENTY_MINUTES = replace(RULES, pull_budget=3, pull_budget_seconds=1200)


def pull_again(story: Story, at: float, *, lasts: float = 0.0) -> None:
    """Launch and claim the current attempt, whose pull fails after *lasts* seconds."""
    number = begin(story, at)
    story.report(number, "pulling", after(at))
    story.call_back(PULL_FAILED, number, after(at + lasts))


def begin(story: Story, at: float) -> int:
    number = story.current.number
    story.deliver(launched(number, at=after(at)), after(at))
    story.claim(number, after(at))
    return number


def pull_until_over(story: Story, lasts: float) -> float:
    """Let every pull fail after *lasts* seconds; return when the job has failed."""
    at = 0.0
    while not story.over:
        at = max(at, seconds_of(story.current.due_at))
        pull_again(story, at, lasts=lasts)
        at += lasts
    return at


def seconds_of(at: datetime) -> float:
    return (at - after(0)).total_seconds()


@pytest.mark.parametrize("lasts", [1.0, 30.0, 5 * MINUTE])
def test_a_registry_that_is_away_for_ten_minutes_costs_nobody_the_job(lasts: float) -> None:
    story, at = Story(rules=TWENTY_MINUTES), 0.0
    while at < 10 * MINUTE:
        at = max(at, seconds_of(story.current.due_at))
        pull_again(story, at, lasts=lasts)
        at += lasts
        assert not story.over, at
    number = begin(story, max(at, seconds_of(story.current.due_at)))
    story.report(number, "running", after(at))
    assert story.job.status == "RUNNING"


@pytest.mark.parametrize("lasts", [1.0, 5 * MINUTE])
def test_one_that_stays_away_fails_the_job_once_count_and_time_are_used_up(lasts: float) -> None:
    story = Story(rules=TWENTY_MINUTES)
    over_at = pull_until_over(story, lasts)
    assert len(story.attempts) > TWENTY_MINUTES.pull_budget
    assert 20 * MINUTE <= over_at <= 20 * MINUTE + 600 + 2 * lasts
    assert story.job.error_message == "the registry is unavailable"


def test_slow_failures_have_the_whole_count_however_long_they_take() -> None:
    story = Story(rules=TWENTY_MINUTES)
    pull_until_over(story, 60 * MINUTE)
    assert len(story.attempts) == TWENTY_MINUTES.pull_budget + 1


def test_without_a_time_the_count_alone_holds() -> None:
    story = Story(rules=replace(TWENTY_MINUTES, pull_budget_seconds=0))
    pull_until_over(story, 1.0)
    assert len(story.attempts) == TWENTY_MINUTES.pull_budget + 1


def test_a_refusal_of_the_registry_has_no_time() -> None:
    story = Story(rules=TWENTY_MINUTES)
    for _ in range(2):
        number = begin(story, seconds_of(story.current.due_at))
        story.call_back(NO_SUCH_IMAGE, number, after(seconds_of(story.current.due_at)))
    assert story.job.status == "FAILED"


def test_beyond_the_count_there_is_a_minute_between_two_attempts_and_the_reason_is_shown() -> None:
    story = Story(rules=replace(TWENTY_MINUTES, pull_budget=1, retry_first_seconds=0))
    pull_again(story, 0.0)
    pull_again(story, 1.0)
    assert seconds_of(story.current.due_at) == 61.0
    because, until = waiting(story.job, story.current, after(2))
    reason = "image pull failed: the registry is unavailable"
    assert (because, until) == (f"retry 2 within 20 min at 00:01:01Z: {reason}", after(61))


def test_the_time_begins_anew_once_a_container_has_run() -> None:
    story = Story(a_job(retries=5), rules=replace(TWENTY_MINUTES, pull_budget=0))
    pull_again(story, 0.0)
    number = begin(story, 100.0)
    story.report(number, "running", after(100.0))
    story.call_back(FAILED, number, after(7200.0))  # after two hours
    pull_again(story, 7300.0)
    assert not story.over
    pull_again(story, 7300.0 + 1201)
    assert story.over
