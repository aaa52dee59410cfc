"""What a job says that it waits for, between two attempts."""

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from services.api.agents.calls import Callback
from services.api.jobs.retry_limits import REASON_CHARACTERS
from services.api.jobs.waiting import waiting
from shared.events.events import InstanceUnconfirmed
from tests.support.api.api_story import (
    DONE,
    FAILED,
    INTERRUPTED,
    NO_SUCH_IMAGE,
    PULL_FAILED,
    RULES,
    STOPPED,
    Story,
    a_job,
    after,
    an_attempt,
    delayed,
    launched,
    terminated,
)

SILENT = replace(FAILED, message="exited with code 3")
RESTARTED = replace(STOPPED, message="the container engine was restarted")
NO_HOST = replace(PULL_FAILED, message="dial tcp: no such host")


def because(story: Story, seconds: float) -> str | None:
    return waiting(story.job, story.current, after(seconds))[0]


def running(**fields: Any) -> Story:
    return Story(a_job(**fields), an_attempt("running"))


def rerun(story: Story, number: int, now: float) -> None:
    story.deliver(launched(number, at=after(now)), after(now))
    story.claim(number, after(now))


KINDS: list[tuple[Callback, int, str]] = [
    (FAILED, 1, "retry 1 of 2 at 00:00:08Z: exit code 3: it failed"),
    (SILENT, 1, "retry 1 of 2 at 00:00:08Z: exit code 3"),
    (replace(FAILED, exit_code=None), 1, "retry 1 of 2 at 00:00:08Z: failed: it failed"),
    (FAILED, 2, "retry 2 of 2 at 00:00:24Z: exit code 3: it failed"),
    (PULL_FAILED, 1, "retry 1 of 2 at 00:00:08Z: image pull failed: the registry is unavailable"),
    (NO_HOST, 2, "retry 2 of 2 at 00:00:24Z: image pull failed: dial tcp: no such host"),
    (NO_SUCH_IMAGE, 1, "retry 1 of 1 at 00:00:08Z: image pull failed: manifest unknown"),
    (STOPPED, 2, "retry 2 of 2 at 00:00:08Z: Spot interruption"),
    (RESTARTED, 2, "retry 2 of 2 at 00:00:08Z: the container engine was restarted"),
]


@pytest.mark.parametrize(("callback", "times", "text"), KINDS)
def test_a_job_between_two_attempts_says_which_retry_comes_when_and_why(
    callback: Callback, times: int, text: str
) -> None:
    story, now = running(retries=2), 0.0
    for number in range(1, times + 1):
        if number > 1:
            now = (story.current.due_at - after(0)).total_seconds()
            rerun(story, number, now)
        story.call_back(callback, number, after(now))
    due_at = story.current.due_at
    assert waiting(story.job, story.current, due_at - timedelta(seconds=1)) == (text, due_at)


def test_a_retry_of_another_day_says_its_date() -> None:
    story = Story(
        a_job(), an_attempt("running"), rules=replace(RULES, reschedule_delay_seconds=86_400)
    )
    story.call_back(STOPPED)
    assert because(story, 0) == "retry 1 of 2 at 2026-01-02T00:00:00Z: Spot interruption"


def test_a_retry_that_is_due_says_since_when_and_announces_no_time_that_has_passed() -> None:
    story = running(retries=1)
    story.call_back(FAILED)
    assert waiting(story.job, story.current, after(20)) == (
        "due 12 s ago; no launch reported yet; retry 1 of 1: exit code 3: it failed",
        None,
    )


def test_each_wait_of_a_further_attempt_says_why_the_one_before_it_ended() -> None:
    story, ended = running(retries=1), "; retry 1 of 1: exit code 3: it failed"
    story.call_back(FAILED)
    story.deliver(delayed(2, seconds=40, message="no capacity in three pools"), after(10))
    assert because(story, 10) == f"no capacity in three pools{ended}"
    story.deliver(launched(2, at=after(50)), after(50))
    assert because(story, 50) == f"instance i-2 is booting{ended}"
    story.claim(2, after(60))
    assert because(story, 60) is None
    story.call_back(DONE, 2, after(70))
    assert because(story, 70) is None


def test_a_held_attempt_says_what_it_waits_for_and_why_the_one_before_it_ended() -> None:
    story = running()
    story.look(after(60))
    lost = "retry 1 of 2: instance lost: no report by its agent for 60 s"
    assert because(story, 60) == (
        "instance i-1 of attempt 1 must be known to be terminated before another container may "
        f"start; {lost}"
    )
    story.deliver(terminated(at=after(70)), after(71))
    assert because(story, 72) == f"due 1 s ago; no launch reported yet; {lost}"


def unconfirmed(attempt: int = 1, instance_id: str = "i-1") -> InstanceUnconfirmed:
    return InstanceUnconfirmed(
        instance_id=instance_id,
        job_id=1,
        attempt=attempt,
        missing_since=after(50),
        assumed_at=after(4250),
    )


def test_a_held_attempt_says_that_the_cloud_shows_the_instance_nowhere_and_until_when() -> None:
    story = running()
    assert not story.deliver(unconfirmed(), after(55))  # its attempt still has it
    story.look(after(60))
    assert not story.deliver(unconfirmed(instance_id="i-9"), after(61))
    assert story.deliver(unconfirmed(), after(62))
    reason, until = waiting(story.job, story.attempts[2], after(63))
    assert reason is not None
    assert reason.startswith(
        "instance i-1 of attempt 1 must be known to be terminated before another container may "
        "start: the cloud has shown it nowhere since 2026-"
    )
    assert "it is asked for by its id" in reason
    assert until == after(4250)
    story.deliver(terminated(at=after(70)), after(71))
    assert not story.deliver(unconfirmed(), after(72))  # late
    assert "due 1 s ago" in str(because(story, 72))


def test_a_replacement_says_why_it_took_over() -> None:
    story = running()
    story.call_back(INTERRUPTED, now=after(5))
    assert story.attempts[2].retry_because is None  # attempt 1 may still finish the job
    story.deliver(launched(2, at=after(8)), after(8))
    story.call_back(STOPPED, now=after(100))
    assert because(story, 101) == ("instance i-2 is booting; retry 1 of 2: Spot interruption")


def test_a_long_message_is_one_line_and_keeps_its_end() -> None:
    story = running(retries=1)
    output = "Traceback:\n" + "  File x\n" * 2_000 + "ValueError: no such day"
    story.call_back(replace(FAILED, message=output))
    text = because(story, 0) or ""
    assert "\n" not in text
    assert text.startswith("retry 1 of 1 at 00:00:08Z: exit code 3: …")
    assert text.endswith("File x ValueError: no such day")
    assert len(text) <= REASON_CHARACTERS + 50


def test_no_time_that_has_passed_is_announced() -> None:
    story = Story()
    story.deliver(delayed(seconds=30), after(0))
    assert waiting(story.job, story.current, after(30))[1] == after(30)
    assert waiting(story.job, story.current, after(31))[1] is None


def test_an_attempt_of_an_earlier_release_says_what_it_said() -> None:
    attempt = an_attempt("scheduled", number=2, due_at=after(60))
    assert waiting(a_job(attempt=2), attempt, after(0)) == (
        "it is scheduled for 2026-01-01T00:01:00Z",
        after(60),
    )
