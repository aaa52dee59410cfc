"""Silence counts only in the time in which agents could be answered."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.docker_job_agent.api import API_TIMEOUT_SECONDS
from agent.docker_job_agent.retries import BACKOFF_CAP_SECONDS
from services.api.jobs import availability, decisions
from services.api.jobs.availability import (
    MOST_SETTLING,
    Outage,
    answered_time,
    decide_answered_until,
    decide_outage,
    record_seconds,
    unsettled_until,
)
from services.api.jobs.model import JobRules, JobWithAttempts
from tests.support.api.api_story import JITTER, NOW, RULES, a_job, after, an_attempt


def seconds(*outages: tuple[float, float], since: float = 0, now: float) -> float:
    """Return the answered seconds from *since* to *now* beside these outages."""
    rows = [Outage(after(began), after(ended)) for began, ended in outages]
    return answered_time(after(since), after(now), rows).total_seconds()


def test_without_outages_all_time_counts() -> None:
    assert seconds(now=60) == 60


def test_an_outage_takes_its_own_length_and_the_agents_backoff() -> None:
    assert seconds((10, 85), now=100) == 10 + 5
    assert seconds((10, 85), now=95) == 10
    assert seconds((10, 85), now=50) == 10  # in the middle of it


def test_after_a_short_outage_agents_have_not_backed_off_for_long() -> None:
    assert seconds((10, 13), now=30) == 10 + (30 - 19)


def test_an_outage_before_the_last_report_takes_nothing_and_one_around_it_only_the_rest() -> None:
    assert seconds((10, 85), since=86, now=100) == 14
    assert seconds((10, 85), since=50, now=100) == 5


def test_outages_that_overlap_are_counted_once() -> None:
    assert seconds((10, 30), (20, 40), (45, 60), now=80) == 10 + 10


def test_an_api_that_restarts_every_minute_still_counts_towards_silence() -> None:
    restarts = [(minute * 60.0, minute * 60 + 5.0) for minute in range(5)]
    assert seconds(*restarts, now=5 * 60) == 5 * 45
    every_ten_seconds = [(start * 10.0, start * 10 + 2.5) for start in range(30)]
    assert seconds(*every_ten_seconds, now=300) > 60


def test_the_agents_longest_backoff_is_the_agents() -> None:
    assert timedelta(seconds=BACKOFF_CAP_SECONDS) == availability.AGENT_BACKOFF
    assert RULES.silence_seconds > API_TIMEOUT_SECONDS


def test_a_gap_between_records_is_an_outage_and_a_late_record_is_none() -> None:
    assert decide_outage(None, NOW, RULES) is None
    assert decide_outage(NOW, after(4), RULES) is None
    assert decide_outage(NOW, after(4.1), RULES) == Outage(NOW, after(4.1))


@pytest.mark.parametrize(("silence", "expected"), [(60, 2.0), (3600, 2.0), (15, 0.5), (1, 0.2)])
def test_records_are_as_dense_as_the_shortest_window_needs(silence: int, expected: float) -> None:
    assert record_seconds(JobRules(silence_seconds=silence)) == expected
    assert record_seconds(JobRules(boot_seconds=silence, silence_seconds=3600)) == expected


def test_the_latest_clock_of_the_replicas_counts_save_one_that_was_far_ahead() -> None:
    assert decide_answered_until(after(1), NOW) == after(1)
    assert decide_answered_until(NOW, after(1)) == after(1)
    assert decide_answered_until(after(3600), NOW) == NOW


def test_in_the_wake_of_an_outage_nothing_is_decided_yet() -> None:
    outage = Outage(NOW, after(75))
    assert unsettled_until(after(80), [outage]) == after(85)
    assert unsettled_until(after(85), [outage]) is None
    step = decisions.decide_overdue(_case(), _case().current, after(80), JITTER, RULES, [outage])
    assert step.events == ()
    assert step.attempts[0].check_at == after(85)


def test_the_maximum_lifetime_that_passes_in_an_outage_waits_for_the_agents_result() -> None:
    attempt = an_attempt("running", dies_by=after(50))
    whole_job = JobWithAttempts(a_job(status="RUNNING"), (attempt,))
    outage = Outage(after(10), after(75))
    waits = decisions.decide_overdue(whole_job, attempt, after(76), JITTER, RULES, [outage])
    assert waits.events == ()
    ends = decisions.decide_overdue(whole_job, attempt, after(85), JITTER, RULES, [outage])
    assert ends.attempts[0].cause == "timed_out"


def test_a_silent_attempt_is_looked_at_when_its_answered_time_is_used_up() -> None:
    outage = Outage(after(10), after(85))
    step = decisions.decide_overdue(_case(), _case().current, after(100), JITTER, RULES, [outage])
    assert step.attempts[0].check_at == after(95 + 50)
    lost = decisions.decide_overdue(
        _case(), _case().current, after(95 + 50), JITTER, RULES, [outage]
    )
    assert lost.attempts[0].cause == "lost"


def test_an_instance_has_its_boot_time_from_when_its_launch_was_recorded() -> None:
    attempt = an_attempt("booting", launch_recorded_at=after(1000))
    whole_job = JobWithAttempts(a_job(), (attempt,))
    step = decisions.decide_overdue(whole_job, attempt, after(1050), JITTER, RULES)
    assert step.attempts[0].check_at == after(1100)
    lost = decisions.decide_overdue(whole_job, attempt, after(1100), JITTER, RULES)
    assert lost.attempts[0].cause == "lost"


def _case() -> JobWithAttempts:
    return JobWithAttempts(a_job(status="RUNNING"), (an_attempt("running"),))


# -- the bound of the backoff


def flapping(down: float, up: float, *, of: float) -> list[Outage]:
    """Return the outages of an API that is *down* and *up* by turns for *of* seconds."""
    period = down + up
    starts = [number * period for number in range(int(of / period))]
    return [Outage(after(start), after(start + down)) for start in starts]


LENGTHS = st.floats(min_value=0.5, max_value=120)


@given(down=LENGTHS, up=LENGTHS)
def test_an_api_that_fails_again_and_again_finds_the_lost_after_the_window_and_the_bound(
    down: float, up: float
) -> None:
    bound = (60 + MOST_SETTLING.total_seconds()) / up * (down + up) + down + up
    outages = flapping(down, up, of=bound)
    assert answered_time(NOW, after(bound), outages).total_seconds() >= 59.9


@given(down=LENGTHS, up=LENGTHS)
def test_a_time_of_an_outage_never_counts(down: float, up: float) -> None:
    outages = flapping(down, up, of=1000)
    counted = answered_time(NOW, after(1000), outages).total_seconds()
    assert counted <= 1000 - len(outages) * down + 0.1


def test_once_the_bound_is_used_up_an_outage_postpones_nothing_more() -> None:
    outages = flapping(10, 10, of=120)
    assert unsettled_until(after(115), outages) == after(120)
    assert unsettled_until(after(135), flapping(10, 10, of=140)) is None


def test_a_short_outage_while_agents_still_back_off_from_a_long_one_cuts_no_backoff_short() -> None:
    outages = [Outage(after(0), after(60)), Outage(after(61), after(62))]
    assert unsettled_until(after(65), outages) == after(70)
