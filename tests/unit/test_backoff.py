"""The one backoff."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.backoff import PARKED, RECONNECT, Backoff
from shared.messaging.inbox import TRIES


def test_delays_grow_by_the_factor_up_to_the_longest() -> None:
    backoff = Backoff(first=1, factor=3, longest=20)
    assert [backoff.delay(tries, 0) for tries in range(1, 6)] == [1, 3, 9, 20, 20]


@pytest.mark.parametrize("tries", [1, 5, 1_000, 10**9])
def test_however_often_it_was_tried_the_delay_is_a_number(tries: int) -> None:
    assert 0 < RECONNECT.delay(tries, 0.5) <= RECONNECT.longest


@given(tries=st.integers(1, 100), jitter=st.floats(0, 1, exclude_max=True))
def test_jitter_takes_up_to_a_quarter_off(tries: int, jitter: float) -> None:
    whole = PARKED.delay(tries, 0)
    assert whole * 0.75 <= PARKED.delay(tries, jitter) <= whole


def test_five_retries_of_a_handler_span_a_minute_at_least_whatever_the_jitter() -> None:
    least = [PARKED.delay(tries, 1) for tries in range(1, TRIES)]
    assert len(least) >= 5
    assert sum(least) >= 60
    assert all(before < after for before, after in itertools.pairwise(least))
