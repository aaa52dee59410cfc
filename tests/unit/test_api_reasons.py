"""Why a job is where it is, in one sentence."""

from typing import Any, get_args

import pytest
from msgspec.structs import replace

from services.api.jobs.model import LIFETIME_PASSED, State
from services.api.jobs.reasons import status_reason
from shared.events.causes import Cause
from tests.support.api.api_story import (
    DONE,
    FAILED,
    INTERRUPTED,
    NO_SUCH_IMAGE,
    STOPPED,
    TIMED_OUT,
    Story,
    a_job,
    after,
    an_attempt,
    delayed,
    launched,
    no_capacity,
    refused,
)


def reason(story: Story, seconds: float = 0) -> str:
    return status_reason(story.job, story.current, after(seconds))


def test_a_job_on_its_way_says_what_it_does() -> None:
    story = Story(a_job(), an_attempt(due_at=after(60)))
    assert reason(story) == "it is scheduled for 2026-01-01T00:01:00Z"
    assert reason(story, 65) == "due 5 s ago; no launch reported yet"
    story.deliver(delayed(message="no Spot capacity"))
    assert reason(story, 65) == "no Spot capacity"
    story.deliver(launched())
    assert reason(story, 66) == "instance i-1 is booting"
    story.claim(now=after(67))
    assert reason(story, 67) == "instance i-1 has booted"
    story.report(phase="pulling", now=after(68))
    assert reason(story, 69) == "pulling the image on i-1"
    story.report(phase="running", now=after(70.5))
    assert reason(story, 71) == "running on i-1 since 2026-01-01T00:01:10Z"
    story.report(phase="stopping", now=after(80))
    assert reason(story, 81) == "stopping on i-1"
    story.call_back(DONE, now=after(82))
    assert reason(story, 83) == "exited 0"


def test_a_retry_says_which_it_is_as_long_as_it_goes_on() -> None:
    story = Story(a_job(retries=2), an_attempt("running"))
    story.call_back(FAILED)
    retry = "exit code 3: it failed"
    assert reason(story, 1) == f"retry 1 of 2 at 00:00:08Z: {retry}"
    story.deliver(launched(2), after(9))
    assert reason(story, 9) == f"instance i-2 is booting; retry 1 of 2: {retry}"
    story.claim(2, after(10))
    story.report(2, phase="running", now=after(11))
    running = "running on i-2 since 2026-01-01T00:00:11Z"
    assert reason(story, 12) == f"{running}; retry 1 of 2: {retry}"
    story.call_back(FAILED, 2, after(13))
    assert reason(story, 14).startswith("retry 2 of 2 at ")


def test_an_interrupted_job_says_that_its_replacement_is_on_its_way() -> None:
    story = Story(a_job(), an_attempt("running"))
    story.call_back(INTERRUPTED)
    assert reason(story).startswith("attempt 1 got a Spot interruption notice")
    story.call_back(STOPPED)
    assert "Spot interruption" in reason(story, 1)


ENDS: list[tuple[Any, dict[str, Any], str]] = [
    (FAILED, {}, "exited 3: it failed"),
    (replace(FAILED, message="first\n  second\n"), {}, "exited 3: first"),
    (replace(FAILED, message="\n \n after empty lines"), {}, "exited 3: after empty lines"),
    (replace(FAILED, message="exited with code 3"), {}, "exited 3"),
    (replace(FAILED, message=None), {}, "exited 3"),
    (replace(FAILED, message="x" * 400), {}, f"exited 3: {'x' * 299}…"),
    (replace(FAILED, exit_code=None, message="no such program"), {}, "no such program"),
    (TIMED_OUT, {"timeout_seconds": 3600}, "timed out after 3600 s"),
    (replace(TIMED_OUT, exit_code=137), {"timeout_seconds": 5}, "timed out after 5 s"),
    (
        replace(TIMED_OUT, message=LIFETIME_PASSED),
        {"timeout_seconds": 5},
        f"timed out: {LIFETIME_PASSED}",
    ),
]


@pytest.mark.parametrize(("callback", "fields", "text"), ENDS)
def test_a_job_that_failed_says_how(callback: Any, fields: dict[str, Any], text: str) -> None:
    story = Story(a_job(**fields), an_attempt("running"))
    story.call_back(callback)
    assert reason(story, 9) == text


def test_a_job_that_never_ran_says_why() -> None:
    story = Story(a_job(), an_attempt("pulling"))
    story.call_back(NO_SUCH_IMAGE)
    story.deliver(launched(2), after(9))
    story.claim(2, after(9))
    story.call_back(NO_SUCH_IMAGE, 2, after(9))
    assert reason(story, 10) == "image pull failed: manifest unknown"
    for event, text in (
        (refused(), "the launch was refused: bad image id"),
        (no_capacity(), "no Spot capacity within 600 s"),
    ):
        story = Story()
        story.deliver(event)
        assert reason(story) == text


def test_a_cancelled_job_says_so() -> None:
    story = Story(a_job(), an_attempt("running"))
    story.cancel()
    assert reason(story) == "cancelled"


@pytest.mark.parametrize("state", get_args(State))
@pytest.mark.parametrize("cause", get_args(Cause))
def test_no_job_is_without_a_reason(state: State, cause: Cause) -> None:
    for fields in ({}, {"instance_id": "i-1"}, {"retry_because": "retry 1 of 2: lost"}):
        more = {"cause": cause} if state == "ended" else {}
        attempt = an_attempt(state, **fields, **more)
        over = {"status": "FAILED", "finished_at": after(1)} if state == "ended" else {}
        for message in (None, "", "\n", "gave up"):
            job = a_job(**over, error_message=message)
            text = status_reason(job, attempt, after(1))
            assert text, (state, cause)
            assert "\n" not in text
