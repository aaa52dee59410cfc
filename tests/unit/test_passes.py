"""The time of a sweep's next run, and the transitions that a state machine allows."""

from datetime import UTC, datetime

from shared.runtime.passes import HELD_ELSEWHERE_SECONDS, next_pass
from shared.states import Transitions, settled, sources

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_full_batch_means_more_at_once_and_nothing_due_means_the_interval() -> None:
    assert next_pass(NOW, full=True, next_due=None) == NOW
    assert next_pass(NOW, full=False, next_due=None) is None


def test_a_row_that_is_due_and_was_not_claimed_is_looked_at_a_little_later() -> None:
    due = next_pass(NOW, full=False, next_due=NOW)
    assert due is not None
    assert (due - NOW).total_seconds() == HELD_ELSEWHERE_SECONDS


def test_a_machine_of_states_says_what_may_become_what_and_what_is_over() -> None:
    machine: Transitions = {
        "wanted": frozenset({"asked", "given_up"}),
        "asked": frozenset({"given_up"}),
        "given_up": frozenset(),
    }
    assert sources(machine, "given_up") == ["asked", "wanted"]
    assert sources(machine, "wanted") == []
    assert settled(machine) == {"given_up"}
