"""The agent's decisions about the start and the stop of a container."""

from datetime import UTC, datetime

import pytest

from agent.docker_job_agent.decisions import INTERRUPTED, OVER, TERMINATED, TIMED_OUT
from agent.docker_job_agent.metadata import Notice
from agent.docker_job_agent.situation import Situation

NOTICE = Notice("terminate", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC))


@pytest.fixture
def situation() -> Situation:
    return Situation()


def test_without_events_a_container_starts_and_runs_on(situation: Situation) -> None:
    assert situation.cause_not_to_start() is None
    assert situation.cause_to_stop(None, now=1e9) is None
    assert situation.cause_to_stop(timeout_at=100.0, now=99.9) is None
    assert situation.final_cause(None) is None


def test_a_container_is_stopped_at_its_time_limit(situation: Situation) -> None:
    assert situation.cause_to_stop(timeout_at=100.0, now=100.0) == TIMED_OUT
    assert situation.final_cause(TIMED_OUT) == TIMED_OUT


def test_after_a_notice_nothing_starts_but_a_container_runs_on_to_the_margin(
    situation: Situation,
) -> None:
    situation.record_notice(NOTICE, seconds_left=90.0)

    stop_at = situation.stop_for_notice_at
    assert stop_at is not None
    assert situation.cause_not_to_start() == INTERRUPTED
    assert situation.cause_to_stop(None, now=stop_at - 1) is None
    assert situation.cause_to_stop(None, now=stop_at) == INTERRUPTED


def test_a_container_that_ended_by_itself_after_a_notice_is_interrupted(
    situation: Situation,
) -> None:
    situation.record_notice(NOTICE, seconds_left=90.0)

    assert situation.final_cause(None) == INTERRUPTED
    assert situation.final_cause(TIMED_OUT) == TIMED_OUT


def test_sigterm_comes_before_a_time_limit_and_a_notice(situation: Situation) -> None:
    situation.record_notice(NOTICE, seconds_left=0.0)
    situation.record_terminated()

    assert situation.cause_not_to_start() == TERMINATED
    assert situation.cause_to_stop(timeout_at=0.0, now=1e9) == TERMINATED
    assert situation.final_cause(INTERRUPTED) == TERMINATED


def test_the_end_of_the_attempt_comes_before_all_other_causes(situation: Situation) -> None:
    situation.record_notice(NOTICE, seconds_left=0.0)
    situation.record_terminated()
    situation.record_over()

    assert situation.cause_not_to_start() == OVER
    assert situation.cause_to_stop(timeout_at=0.0, now=1e9) == OVER
    assert situation.final_cause(INTERRUPTED) == OVER


def test_each_event_wakes_the_main_thread(situation: Situation) -> None:
    for record in (situation.record_over, situation.record_terminated, situation.wake):
        record()
        situation.wait(3600.0)  # returns at once: the event came before
    situation.record_notice(NOTICE, 1.0)
    situation.wait(3600.0)


def test_a_wait_ends_when_its_condition_holds_or_its_time_is_over(situation: Situation) -> None:
    situation.record_over()

    assert situation.wait_until(lambda: situation.over, 3600.0)
    assert not situation.wait_until(lambda: False, 0.0)


def test_a_wait_goes_on_after_a_wake_up_without_consequence(situation: Situation) -> None:
    for _ in range(3):
        situation.wake()
    calls = iter([False, False, False, True])

    assert situation.wait_until(lambda: next(calls), 3600.0)
