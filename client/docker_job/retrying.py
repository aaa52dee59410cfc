"""Decisions about trying again. They are pure: chance and the time come in as arguments.

A request is repeated if its answer was lost or says "not now" (429, 502, 503, 504). Requests are
safe to repeat: those that create a job carry an idempotency key. The exception is an array of
jobs, which has no key: it is repeated only where the API surely did not accept it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

FIRST_SECONDS = 0.2
MOST_SECONDS = 10.0
LONGEST_WAIT_SECONDS = 60.0
"""Of a `Retry-After`: who is asked to wait longer gets the error."""

RATE_TIMES = 10
"""A 429 with a `Retry-After` is repeated so many times as often: many threads share a key's rate,
and some of them come too late each time."""

NOT_NOW = frozenset({429, 502, 503, 504})
PASSING = frozenset({408, 425, 429})
"""Of 3xx and 4xx those that end no stream: all others would be the same again."""


@dataclass(frozen=True)
class Failure:
    """A request that failed. *status*: None if there was no answer.

    *sent*: whether the API may have received the request.
    """

    status: int | None = None
    retry_after: float | None = None
    sent: bool = True


def backoff_seconds(failures: int, chance: float) -> float:
    """Return the pause after so many failures in a row: doubled each time, half of it jitter."""
    full = min(MOST_SECONDS, FIRST_SECONDS * 2.0 ** min(failures - 1, 16))
    return full * (0.5 + chance / 2)


def pause_before_retry(
    failure: Failure, failures: int, retries: int, *, repeatable: bool, chance: float
) -> float | None:
    """Return the seconds to wait before the request is repeated; None: it is not."""
    named = failure.status == 429 and failure.retry_after is not None
    if failures > (retries * RATE_TIMES if named else retries):
        return None
    if failure.status is not None and failure.status not in NOT_NOW:
        return None
    if not repeatable and failure.sent and failure.status != 429:
        return None
    if failure.retry_after is None:
        return backoff_seconds(failures, chance)
    if failure.retry_after > LONGEST_WAIT_SECONDS:
        return None
    return failure.retry_after + FIRST_SECONDS * chance


def pause_before_resuming(
    failure: Failure,
    failures: int,
    away_seconds: float,
    patience_seconds: float | None,
    *,
    chance: float,
) -> float | None:
    """Return the seconds to wait before a stream is resumed; None: it is given up.

    *away_seconds*: since the stream last lived. *patience_seconds*: None is endless.
    """
    status = failure.status
    if status is not None and status < 500 and status not in PASSING:
        return None
    if patience_seconds is not None and away_seconds >= patience_seconds:
        return None
    pause = backoff_seconds(failures, chance)
    if failure.retry_after is not None:
        pause = max(pause, min(failure.retry_after, LONGEST_WAIT_SECONDS))
    return pause


def retry_after_of(headers: Mapping[str, str]) -> float | None:
    """Read `Retry-After` in seconds; None if there is none, or it is a date."""
    raw = headers.get("Retry-After", "").strip()
    return float(raw) if raw.isascii() and raw.isdecimal() else None
