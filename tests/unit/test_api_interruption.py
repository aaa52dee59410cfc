"""Interruptions: the early replacement, the right to run, and the retry that each cause uses."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from services.api.agents.calls import Callback
from services.api.agents.refusals import Refused
from services.api.jobs.model import JobRules
from shared.events.events import AttemptEnded, JobScheduled
from tests.support.api.api_story import (
    DONE,
    FAILED,
    INTERRUPTED,
    NO_SUCH_IMAGE,
    PULL_FAILED,
    RULES,
    STOPPED,
    TIMED_OUT,
    UNSURE,
    Story,
    a_job,
    after,
    an_attempt,
    launched,
    no_capacity,
    refused,
    terminated,
    warned,
)


def interrupted_story(**fields: Any) -> Story:
    """Make a job whose attempt 1 runs, has had its notice, and whose replacement is launched."""
    story = Story(a_job(**fields), an_attempt("running"))
    story.call_back(INTERRUPTED, now=after(5))
    story.deliver(launched(2, at=after(8)), after(8))
    return story


# -- the replacement


def test_a_replacement_waits_alive_until_the_container_before_it_has_stopped() -> None:
    story = interrupted_story()
    assert story.claim(2, after(20)) is False
    waiting = story.attempts[2]
    assert (waiting.state, waiting.heartbeat_at, waiting.token_hash) == ("booting", after(20), None)
    assert waiting.waiting_because == (
        "attempt 2 is ready, and waits until the container of attempt 1 is known to have stopped"
    )
    story.claim(2, after(60))
    story.report(1, now=after(100))
    story.look(after(108))  # its time to boot is over, but it speaks
    assert story.attempts[2].state == "booting"
    story.call_back(STOPPED, now=after(110))
    assert story.claim(2, after(111))
    assert story.attempts[2].waiting_because is None


def test_a_replacement_that_stops_asking_is_lost_and_replaced() -> None:
    story = interrupted_story()
    story.claim(2, after(20))
    story.report(1, now=after(79))
    story.look(after(80))
    assert (story.attempts[2].cause, story.job.attempt) == ("lost", 1)
    assert story.attempts[3].state == "scheduled"
    assert story.attempts[3].due_at == after(88)  # the second of this budget waits
    story.call_back(STOPPED, now=after(90))
    assert story.job.attempt == 3


@pytest.mark.parametrize("callback", [DONE, FAILED, TIMED_OUT])
def test_whatever_ends_the_job_first_the_replacement_is_given_up(callback: Callback) -> None:
    story = interrupted_story()
    story.claim(2, after(9))
    story.call_back(callback, now=after(10))
    assert story.over
    assert story.attempts[2].cause == "superseded"
    assert story.attempts[2].error_message == (
        f"not needed: attempt 1 ended the job ({callback.cause})"
    )
    [_, given_up] = story.published_of(AttemptEnded)
    assert (given_up.attempt, given_up.terminate_after) == (2, after(10))
    with pytest.raises(Refused):
        story.claim(2)


def test_cancelling_ends_the_attempt_and_its_replacement() -> None:
    story = interrupted_story()
    story.cancel(after(10))
    assert [story.attempts[number].cause for number in (1, 2)] == ["cancelled", "cancelled"]
    assert story.names() == [
        "JobScheduled",
        "JobCancelled",
        "AttemptEnded",
        "AttemptEnded",
        "JobFinished",
    ]


@pytest.mark.parametrize("refusal", [refused, no_capacity])
def test_a_replacement_that_is_refused_does_not_harm_the_attempt(
    refusal: Callable[[int], Any],
) -> None:
    story = Story(a_job(), an_attempt("running"))
    story.call_back(INTERRUPTED, now=after(5))
    story.deliver(refusal(2), after(6))
    assert (story.over, story.job.attempt) == (False, 1)
    assert len(story.attempts) == 2
    story.call_back(STOPPED, now=after(9))
    assert (story.job.attempt, story.attempts[3].state) == (3, "scheduled")


def test_a_replacement_that_is_taken_back_itself_is_replaced() -> None:
    story = interrupted_story()
    story.deliver(warned(2, at=after(9)), after(9))
    assert story.attempts[2].cause == "interrupted"
    assert (story.job.attempt, story.attempts[3].state) == (1, "scheduled")
    story.deliver(terminated(2, spot=True), after(12))
    assert len(story.attempts) == 3


def test_nothing_runs_while_any_earlier_container_may() -> None:
    """Attempt 1 went silent after its notice; attempt 2 died before it could start."""
    story = interrupted_story()
    story.look(after(65))
    assert (story.attempts[1].cause, story.job.attempt) == ("interrupted", 2)
    story.deliver(terminated(2), after(70))
    assert (story.attempts[2].cause, story.attempts[3].state) == ("lost", "held")
    assert "i-1 of attempt 1" in (story.attempts[3].waiting_because or "")
    story.deliver(terminated(1), after(90))
    assert story.attempts[3].state == "scheduled"
    assert len(story.published_of(JobScheduled)) == 2


def test_the_notice_by_both_channels_starts_one_replacement() -> None:
    for first, second in itertools.permutations(["agent", "cloud"]):
        story = Story(a_job(), an_attempt("running"))
        for channel in (first, second, first):
            if channel == "agent":
                story.call_back(INTERRUPTED, now=after(5))
            else:
                story.deliver(warned(), after(5))
        assert len(story.published_of(JobScheduled)) == 1
        assert story.phases() == ["stopping", "scheduled"]


EVENTS: dict[str, Callable[[Story], Any]] = {
    "notice": lambda story: story.call_back(INTERRUPTED, now=after(10)),
    "warned": lambda story: story.deliver(warned(), after(10)),
    "launched": lambda story: story.deliver(launched(2, at=after(10)), after(10)),
    "asked": lambda story: story.claim(2, after(10)),
    "stopped": lambda story: story.call_back(STOPPED, now=after(10)),
    "gone": lambda story: story.deliver(terminated(1, spot=True, at=after(10)), after(10)),
}


@pytest.mark.parametrize("doubled", [False, True])
def test_the_facts_of_an_interruption_converge_in_every_order(*, doubled: bool) -> None:
    """An event that comes too early (attempt 2 is not scheduled) is delivered again at the end."""
    ends = set()
    for order in itertools.permutations(EVENTS):
        story = Story(a_job(), an_attempt("running"))
        for name in (*order, *EVENTS):
            for _ in range(2 if doubled else 1):
                try:
                    EVENTS[name](story)
                except (KeyError, Refused):
                    assert name in ("launched", "asked", "notice", "stopped")
        ends.add(
            (
                story.job.status,
                story.job.attempt,
                tuple(story.phases()),
                story.attempts[1].cause,
                story.attempts[2].token_hash,
                tuple(sorted(story.names())),
            )
        )
    assert len(ends) == 1


# -- rebalance


def test_a_rebalance_recommendation_is_noted_and_nothing_else() -> None:
    story = Story(a_job(), an_attempt("running"))
    assert story.rebalance(now=after(5))
    assert story.rebalance(now=after(6)) is False
    assert story.deliver(warned(rebalance=True), after(7)) is False
    assert story.current.rebalance_at == after(5)
    assert story.published == []


def test_by_a_setting_a_rebalance_recommendation_launches_the_replacement() -> None:
    rules = replace(RULES, replace_on_rebalance=True)
    story = Story(a_job(status="RUNNING"), an_attempt("running"), rules=rules)
    story.rebalance(now=after(5))
    assert (story.job.status, story.phases()) == ("RUNNING", ["running", "scheduled"])
    story.call_back(INTERRUPTED, now=after(60))
    assert (story.job.status, story.phases()) == ("SCHEDULED", ["stopping", "scheduled"])
    assert len(story.published_of(JobScheduled)) == 1


# -- causes and budgets


def test_no_capacity_within_the_time_is_a_cause_of_its_own_and_final() -> None:
    story = Story(a_job(retries=5))
    story.deliver(no_capacity())
    assert (story.job.status, story.attempts[1].cause) == ("FAILED", "no_capacity")
    assert story.job.error_message == "no Spot capacity within 600 s"


def fail(story: Story, callback: Callback) -> None:
    """Launch the current attempt, claim it, run it, and end it with *callback*."""
    number = story.job.attempt
    story.deliver(launched(number))
    story.claim(number)
    story.call_back(callback, number, now=after(5))


def test_a_failing_container_is_run_again_as_often_as_the_job_says_later_and_later() -> None:
    story = Story(a_job(retries=2))
    for delay in (8, 16):
        fail(story, FAILED)
        assert story.current.due_at == after(5 + delay)
    fail(story, FAILED)
    assert (story.job.status, story.job.error_message) == ("FAILED", "it failed")
    assert (story.job.exit_code, len(story.attempts)) == (3, 3)


def test_a_failure_whose_container_may_run_on_holds_the_next_attempt() -> None:
    story = Story(a_job(retries=1))
    fail(story, UNSURE)
    assert (story.attempts[1].container_stopped, story.current.state) == (False, "held")
    story.deliver(terminated(1), after(30))
    assert story.current.state == "scheduled"


def test_a_run_out_of_time_is_not_run_again() -> None:
    story = Story(a_job(retries=2))
    fail(story, TIMED_OUT)
    assert story.job.status == "FAILED"


def test_interruptions_and_pulls_use_nothing_of_the_jobs_own_retries() -> None:
    story = Story(a_job(retries=1))
    for callback in (STOPPED, PULL_FAILED, STOPPED, PULL_FAILED, FAILED):
        fail(story, callback)
        assert not story.over, callback
    fail(story, FAILED)
    assert (story.job.status, len(story.attempts)) == ("FAILED", 6)


def test_each_budget_ends_the_job_by_itself() -> None:
    for callback, further in ((STOPPED, 2), (PULL_FAILED, 2), (NO_SUCH_IMAGE, 1), (FAILED, 0)):
        story = Story(a_job())
        while not story.over:
            fail(story, callback)
        assert len(story.attempts) == further + 1, callback
        assert story.job.status == "FAILED"


def test_the_first_attempt_after_an_interruption_starts_at_once_and_others_later() -> None:
    rules = JobRules(retry_first_seconds=8)
    story = Story(a_job(), rules=rules)
    waits = []
    for _ in range(12):
        fail(story, STOPPED)
        waits.append((story.current.due_at - after(5)).total_seconds())
    assert waits == [0, 8, 16, 32, 64, 128, 256, 512, 600, 600, 600, 600]


def test_a_job_without_a_budget_left_gets_no_replacement_at_the_notice() -> None:
    story = Story(a_job(), an_attempt("running"), rules=replace(RULES, interruption_budget=0))
    story.call_back(INTERRUPTED, now=after(5))
    assert (story.published, story.job.attempt) == ([], 1)
    story.call_back(STOPPED, now=after(6))
    assert story.job.error_message == "gave up after 1 attempts, the last one was interrupted"


def test_a_silent_attempt_that_the_market_took_back_was_interrupted() -> None:
    story = Story(a_job(), an_attempt("running"))
    story.look(after(60))
    causes = [story.attempts[1].cause]
    story.deliver(terminated(spot=True), after(70))
    causes.append(story.attempts[1].cause)
    assert causes == ["lost", "interrupted"]
    assert story.current.state == "scheduled"
