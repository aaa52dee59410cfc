"""CallerRate limits as values: their allowance, clocks that jump, floods of other names."""

import pytest

from services.api.keys.rates import CallerRate, RateLimit, TooMany
from services.api.processes.siblings import SharedTable


class Seconds:
    """A clock that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


def a_limit(seconds: Seconds, per_second: float = 2, at_once: float = 5) -> RateLimit:
    return RateLimit(CallerRate(per_second, at_once), "a key", "REQUESTS", seconds, SharedTable())


def taken(limit: RateLimit, caller: str, tries: int) -> int:
    """Return how many of *tries* requests are taken."""
    count = 0
    for _ in range(tries):
        try:
            limit.take(caller)
        except TooMany:
            continue
        count += 1
    return count


def test_a_caller_has_so_many_at_once_and_then_so_many_a_second(seconds: Seconds) -> None:
    limit = a_limit(seconds)
    counts = [taken(limit, "a", 20)]
    for passed in (0.5, 1.0, 100.0):
        seconds.now += passed
        counts.append(taken(limit, "a", 20))
    print(f"{counts} of 20 each were taken")
    assert counts == [5, 1, 2, 5]


def test_the_wait_that_is_named_is_enough_and_needed(seconds: Seconds) -> None:
    limit = a_limit(seconds, per_second=0.3, at_once=3)
    assert taken(limit, "a", 3) == 3
    with pytest.raises(TooMany) as refused:
        limit.take("a")
    wait = refused.value.wait_seconds
    assert wait == pytest.approx(1 / 0.3)
    seconds.now += wait * 0.99
    assert taken(limit, "a", 1) == 0
    seconds.now += wait * 0.01
    assert taken(limit, "a", 2) == 1


def test_the_error_names_the_limit_and_its_settings(seconds: Seconds) -> None:
    limit = a_limit(seconds)
    taken(limit, "a", 5)
    with pytest.raises(TooMany) as refused:
        limit.take("a")
    assert str(refused.value) == (
        "too many requests: wait 0.5 s (a key has 2 a second, 5 at once: "
        "DOCKER_JOB_REQUESTS_PER_SECOND, DOCKER_JOB_REQUESTS_AT_ONCE)"
    )


def test_zero_is_no_limit(seconds: Seconds) -> None:
    assert taken(a_limit(seconds, per_second=0), "a", 1000) == 1000


@pytest.mark.parametrize("jump", [3600.0, -3600.0, 1e9, -1e9])
def test_a_clock_that_jumps_locks_nobody_out(seconds: Seconds, jump: float) -> None:
    limit = a_limit(seconds)
    taken(limit, "a", 20)
    seconds.now += jump
    taken(limit, "a", 20)
    seconds.now += 0.5
    assert taken(limit, "a", 1) == 1


def test_what_is_given_back_can_be_taken_again_and_no_more(seconds: Seconds) -> None:
    limit = a_limit(seconds)
    limit.give_back("a")  # unknown
    assert taken(limit, "a", 20) == 5
    for _ in range(2):
        limit.give_back("a")
    assert taken(limit, "a", 20) == 2
    seconds.now += 1000
    for _ in range(50):
        limit.give_back("a")
    assert taken(limit, "a", 20) == 5


def test_a_flood_of_other_addresses_resets_no_limit(seconds: Seconds) -> None:
    limit = a_limit(seconds, per_second=1, at_once=30)
    guessers = [f"203.0.113.{number}" for number in range(250)]
    assert all(taken(limit, each, 40) == 30 for each in guessers)
    others = 100_000
    for number in range(others):
        limit.take(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    more = sum(taken(limit, each, 40) for each in guessers)
    print(f"after {others} other addresses {more} of {40 * len(guessers)} further guesses")
    assert more == 0
