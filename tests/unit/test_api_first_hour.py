"""The free first hour: when an instance under notice is left to EC2, and until when."""

from datetime import datetime
from typing import Any

import pytest
from msgspec.structs import replace

from services.api.config import from_settings
from services.api.jobs.first_hour import FREE_SECONDS, LATE_SECONDS, NOTICE_SECONDS, free_seconds
from services.api.jobs.model import JobRules
from shared.events.events import AttemptEnded
from shared.settings import BadSetting, Settings
from tests.support.api.api_story import (
    DONE,
    FAILED,
    INTERRUPTED,
    RULES,
    STOPPED,
    Story,
    a_job,
    after,
    an_attempt,
    launched,
)

FREE = replace(RULES, free_first_hour=True)
LEFT_TO_EC2 = NOTICE_SECONDS + LATE_SECONDS


def story_of(*, rules: JobRules = FREE, market: str = "spot", at: float = 0, **job: Any) -> Story:
    """Make a job that runs on an instance launched *at* a time."""
    story = Story(a_job(**job), an_attempt("scheduled"), rules=rules)
    story.deliver(replace(launched(at=after(at)), market=market), after(at))
    story.claim(1, after(at + 20))
    story.report(1, phase="running", now=after(at + 30))
    return story


def ended_of(story: Story, number: int = 1) -> datetime:
    """Return when the reaper may end the instance of an attempt."""
    [over] = [each for each in story.published_of(AttemptEnded) if each.attempt == number]
    at: datetime = over.terminate_after
    return at


def test_after_a_notice_in_the_first_hour_the_instance_is_left_to_ec2() -> None:
    story = story_of()
    story.call_back(INTERRUPTED, now=after(600))
    story.call_back(STOPPED, now=after(690))
    assert ended_of(story) == after(600 + LEFT_TO_EC2)


def test_the_next_attempt_does_not_wait_for_that() -> None:
    story = story_of()
    story.call_back(INTERRUPTED, now=after(600))
    story.deliver(launched(2, at=after(603)), after(603))
    assert story.claim(2, after(640)) is False
    story.call_back(STOPPED, now=after(690))
    assert story.claim(2, after(691))


def test_a_notice_that_comes_with_the_end_alone_counts_too() -> None:
    story = story_of()
    story.call_back(STOPPED, now=after(600))
    assert ended_of(story) == after(600 + LEFT_TO_EC2)


def test_a_machine_that_ends_its_container_itself_is_not_waited_for() -> None:
    story = story_of()
    story.call_back(replace(STOPPED, message="the engine ended"), now=after(600))
    assert ended_of(story) == after(600)


@pytest.mark.parametrize(
    ("noticed", "free"),
    [(FREE_SECONDS - NOTICE_SECONDS - 1, True), (FREE_SECONDS - NOTICE_SECONDS, False)],
)
def test_what_counts_is_that_ec2_takes_it_within_the_hour(noticed: float, *, free: bool) -> None:
    story = story_of()
    story.call_back(INTERRUPTED, now=after(noticed))
    story.call_back(STOPPED, now=after(noticed + 90))
    assert ended_of(story) == after(noticed + (LEFT_TO_EC2 if free else 90))


@pytest.mark.parametrize("callback", [DONE, FAILED])
def test_a_job_that_ends_under_notice_has_a_free_instance_too(callback: Any) -> None:
    story = story_of()
    story.call_back(INTERRUPTED, now=after(600))
    story.call_back(callback, now=after(620))
    assert ended_of(story) == after(600 + LEFT_TO_EC2)


def test_so_has_a_job_that_is_cancelled_under_notice() -> None:
    story = story_of()
    story.call_back(INTERRUPTED, now=after(600))
    story.cancel(after(620))
    assert ended_of(story) == after(600 + LEFT_TO_EC2)


def test_a_container_that_may_run_on_is_ended_at_once_for_the_next_attempt() -> None:
    story = story_of()
    story.call_back(INTERRUPTED, now=after(600))
    story.look(after(600 + NOTICE_SECONDS))  # no report for long
    assert story.attempts[1].cause == "interrupted"
    assert ended_of(story) == after(600 + NOTICE_SECONDS)


@pytest.mark.parametrize(
    "given", [{"rules": RULES}, {"market": "on_demand"}], ids=["off", "on demand"]
)
def test_otherwise_it_is_ended_at_once(given: Any) -> None:
    story = story_of(**given)
    story.call_back(INTERRUPTED, now=after(600))
    story.call_back(STOPPED, now=after(690))
    assert ended_of(story) == after(690)


def test_without_a_notice_nothing_waits() -> None:
    story = story_of()
    story.call_back(DONE, now=after(600))
    assert ended_of(story) == after(600)


def test_an_agent_gets_what_is_left_of_the_hour_and_nothing_that_is_unknown() -> None:
    [attempt] = story_of().attempts.values()
    assert free_seconds(attempt, after(600), FREE) == FREE_SECONDS - 600
    assert free_seconds(attempt, after(4000), FREE) == 0
    assert free_seconds(replace(attempt, launched_at=None), after(600), FREE) == 0
    assert free_seconds(replace(attempt, market=None), after(600), FREE) == 0


def free(**settings: str) -> bool:
    given = Settings({f"DOCKER_JOB_{name}": value for name, value in settings.items()})
    return from_settings(given, deployment="test", token_key="").rules.free_first_hour


def test_the_setting_is_on_where_instances_are_ec2s() -> None:
    role = {"INSTANCE_ROLE_ARN": "arn:aws:iam::123456789012:role/x", "STS_REGION": "us-east-1"}
    assert free(COMPUTE_URL="ec2://us-east-1")
    assert free(**role)
    assert not free(COMPUTE_URL="ec2://us-east-1", FREE_FIRST_HOUR="off")
    assert not free(COMPUTE_URL="docker://")
    assert not free()


def test_a_wrong_setting_is_named() -> None:
    with pytest.raises(BadSetting, match="FREE_FIRST_HOUR"):
        free(FREE_FIRST_HOUR="maybe")
