"""Whether agents can be answered: their failing calls, and the silence of all of them at once."""

from datetime import timedelta

import pytest

from services.api.jobs.answering import (
    FAILURE_LASTS,
    LONGEST_DOUBT,
    Availability,
    Calls,
    Doubt,
    Failing,
    Liveness,
    Received,
    Record,
    decide_failing,
    decide_record,
    is_deaf,
    unreceived_seconds,
)
from services.api.jobs.availability import Outage
from services.api.jobs.model import JobRules
from services.api.jobs.reception import KEPT, Arrivals, Reception
from shared.clock import VirtualClock
from tests.support.api.api_story import NOW, RULES, after

NOT_ASKED = Liveness()
ANSWERED, FAILED, MIXED, NONE = Calls(1, 0), Calls(0, 1), Calls(1, 1), Calls()
ROW = Availability(answered_until=NOW, claims_answered_until=NOW)


def record(
    before: Availability = ROW,
    *,
    reports: Calls = NONE,
    claims: Calls = NONE,
    live: Liveness = NOT_ASKED,
    at: float = 2,
) -> Record:
    return decide_record(before, Received(reports, claims), live, after(at), RULES)


@pytest.mark.parametrize("calls", [NONE, ANSWERED, MIXED])
def test_it_is_recorded_unless_calls_only_fail(calls: Calls) -> None:
    made = record(reports=calls)
    assert made == Record(
        after=Availability(answered_until=after(2), claims_answered_until=after(2))
    )


def test_while_calls_only_fail_nothing_is_recorded_and_the_gap_is_an_outage() -> None:
    failing = record(reports=FAILED)
    assert (failing.doubt, failing.after.answered_until) == ("calls of agents fail", NOW)
    still = record(failing.after, reports=FAILED, at=10)
    assert still.after.reports_failing_since == after(2)
    over = record(still.after, reports=ANSWERED, at=12)
    assert over.outage == Outage(NOW, after(12))
    assert (over.claims_outage, over.after.reports_failing_since) == (None, None)


def test_a_process_without_calls_goes_by_those_of_the_others() -> None:
    failing = record(reports=FAILED).after
    assert record(failing, at=12).doubt is not None
    forgotten = record(failing, at=2 + FAILURE_LASTS.total_seconds() + 1)
    assert forgotten.outage is not None
    assert forgotten.after.reports_failing_since is None


def test_calls_that_fail_for_too_long_count_as_silence_again() -> None:
    row, longest = ROW, LONGEST_DOUBT.total_seconds()
    for at in range(2, int(longest) + 2, 10):
        made = record(row, reports=FAILED, at=at)
        assert made.doubt is not None
        row = made.after
    made = record(row, reports=FAILED, at=longest + 4)
    assert made.outage == Outage(NOW, after(longest + 4))
    assert record(made.after, reports=FAILED, at=longest + 6).outage is None


def test_claims_that_fail_stop_the_clock_of_claims_alone() -> None:
    made = record(reports=ANSWERED, claims=MIXED)
    assert made.after.answered_until == after(2)
    assert made.after.claims_answered_until == NOW
    later = record(made.after, claims=MIXED, at=20).after
    over = record(later, reports=ANSWERED, claims=ANSWERED, at=45)
    assert over.claims_outage == Outage(NOW, after(45))


def test_an_outage_of_all_is_recorded_once() -> None:
    assert record(at=100) == Record(
        after=Availability(answered_until=after(100), claims_answered_until=after(100)),
        outage=Outage(NOW, after(100)),
    )


def test_a_row_of_the_last_release_has_no_outage_of_claims() -> None:
    made = record(Availability(answered_until=NOW), at=100)
    assert (made.outage, made.claims_outage) == (Outage(NOW, after(100)), None)
    assert record(Availability(), reports=FAILED).after.answered_until == after(2)


@pytest.mark.parametrize(
    ("attempts", "silent", "doubt"),
    [
        (2, 19, None),
        (2, 21, "no agent is received"),
        (2, 600, "no agent is received"),
        (2, 601, None),
        (1, 60, None),
        (0, 60, None),
    ],
)
def test_several_agents_that_are_silent_at_once_are_not_received(
    attempts: int, silent: float, doubt: Doubt | None
) -> None:
    live = Liveness(attempts, after(2 - silent))
    assert record(live=live).doubt == doubt


def test_agents_are_missed_before_they_are_lost() -> None:
    assert unreceived_seconds(RULES) == 20
    assert unreceived_seconds(JobRules(heartbeat_seconds=0.5, silence_seconds=4)) == 3
    assert unreceived_seconds(JobRules(heartbeat_seconds=25, silence_seconds=60)) == 45


def test_a_failure_begins_anew_after_a_pause() -> None:
    old = Failing(NOW, after(2))
    assert decide_failing(old, FAILED, after(20), answer_ends_it=True) == Failing(NOW, after(20))
    assert decide_failing(old, FAILED, after(60), answer_ends_it=True) == Failing(
        after(60), after(60)
    )


def test_counts_are_taken_once() -> None:
    reception = Reception(VirtualClock(NOW))
    reception.reports.count(failed=True)
    reception.claims.count(failed=False)
    assert reception.take() == Received(FAILED, ANSWERED)
    assert reception.take() == Received()


def test_a_call_waits_until_it_is_answered() -> None:
    arrivals = Arrivals(VirtualClock(NOW))
    with arrivals.waiting(b"token"), arrivals.waiting(b"token"):
        assert arrivals.is_waiting(None, b"token")
    assert not arrivals.is_waiting(b"token")
    assert arrivals.latest_of(b"token") == NOW


def test_arrivals_are_kept_for_a_while_and_not_for_ever() -> None:
    clock = VirtualClock(NOW)
    arrivals = Arrivals(clock)
    arrivals.note(b"token")
    clock.advance(1)
    arrivals.note("i-1")
    assert arrivals.latest_of(b"token") == NOW
    assert arrivals.latest_of(b"token", "i-1", None) == after(1)
    for _ in range(3):
        clock.advance((KEPT + timedelta(seconds=1)).total_seconds())
        arrivals.note(b"other")
    assert arrivals.latest_of(b"token", "i-1") is None


@pytest.mark.parametrize(("heartbeat", "deaf"), [(0.9, True), (5.0, False)])
def test_where_a_heartbeat_is_rarer_than_the_silence_allows_no_conclusion_is_drawn(
    heartbeat: float, *, deaf: bool
) -> None:
    rules = JobRules(heartbeat_seconds=heartbeat, silence_seconds=4)
    assert is_deaf(Liveness(3, NOW), after(3.5), rules) == deaf
