"""When a request is sent again, and when a stream is resumed: decisions without time or chance."""

import pytest

from docker_job.retrying import (
    Failure,
    backoff_seconds,
    pause_before_resuming,
    pause_before_retry,
    retry_after_of,
)

UNSENT = Failure(sent=False)
LOST = Failure()


def retry(
    failure: Failure, failures: int = 1, *, retries: int = 3, repeatable: bool = True
) -> float | None:
    return pause_before_retry(failure, failures, retries, repeatable=repeatable, chance=0.5)


def resume(
    failure: Failure, *, away: float = 0.0, patience: float | None = 60.0, failures: int = 1
) -> float | None:
    return pause_before_resuming(failure, failures, away, patience, chance=0.5)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_an_answer_that_says_not_now_is_asked_for_again(status: int) -> None:
    assert retry(Failure(status)) is not None


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 500])
def test_an_answer_that_would_come_again_is_final(status: int) -> None:
    assert retry(Failure(status)) is None


def test_a_lost_connection_is_tried_three_times_more() -> None:
    assert [retry(LOST, count) is None for count in (1, 2, 3, 4)] == [False, False, False, True]


def test_an_array_of_jobs_is_sent_again_only_where_it_surely_was_not_accepted() -> None:
    assert retry(UNSENT, repeatable=False) is not None
    assert retry(Failure(429), repeatable=False) is not None
    assert retry(LOST, repeatable=False) is None
    assert retry(Failure(503), repeatable=False) is None


def test_retry_after_is_respected() -> None:
    assert retry(Failure(503, retry_after=7)) == pytest.approx(7.1)


def test_a_rate_limit_that_names_its_time_outlasts_many_threads_with_one_key() -> None:
    limited, full = Failure(429, retry_after=1), Failure(503, retry_after=1)
    assert [retry(limited, count) is None for count in (4, 30, 31)] == [False, False, True]
    assert retry(limited, retries=0) is None
    assert retry(full, 4) is None
    assert retry(Failure(429), 4) is None, "a quota of jobs, which names no time"


def test_who_is_asked_to_wait_longer_than_a_minute_gets_the_error() -> None:
    assert retry(Failure(429, retry_after=61)) is None


def test_the_pause_doubles_up_to_ten_seconds_and_half_of_it_is_jitter() -> None:
    assert [backoff_seconds(count, 1.0) for count in (1, 2, 3, 4)] == [0.2, 0.4, 0.8, 1.6]
    assert backoff_seconds(40, 1.0) == 10
    assert backoff_seconds(40, 0.0) == 5
    assert backoff_seconds(100_000, 1.0) == 10


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 409, 422])
def test_a_stream_ends_at_an_answer_that_would_come_again(status: int) -> None:
    assert resume(Failure(status), patience=None) is None


@pytest.mark.parametrize("status", [None, 408, 429, 500, 502, 503, 504])
def test_a_stream_is_resumed_while_patience_lasts(status: int | None) -> None:
    assert resume(Failure(status), away=59) is not None
    assert resume(Failure(status), away=60) is None


def test_a_stream_without_a_limit_of_patience_is_always_resumed() -> None:
    assert resume(LOST, away=1e9, patience=None, failures=10**6) is not None


def test_a_stream_waits_at_least_for_retry_after_and_a_minute_at_most() -> None:
    assert resume(Failure(503, retry_after=20)) == 20
    assert resume(Failure(503, retry_after=9999)) == 60


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7.0), (" 7 ", 7.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("-1", None), ("", None)],
)
def test_retry_after_is_read_in_seconds(header: str, seconds: float | None) -> None:
    assert retry_after_of({"Retry-After": header}) == seconds
