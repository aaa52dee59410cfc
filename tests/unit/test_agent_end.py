"""The agent's report of its end, as agents of this and of earlier releases write it."""

from datetime import UTC, datetime

import pytest

from shared.compute.agent_end import Ended


@pytest.mark.parametrize(
    ("reason", "interrupted"),
    [
        ("final callback schedule/stopped answered with status 200", True),
        ("last word schedule/stopped heard with status 200", True),
        ("no final callback: interrupted", True),
        ("no last word: interrupted", True),
        ("final callback exit_code answered with status 200", False),
        ("last word failed/error_message heard with status 200", False),
        ("", False),
    ],
)
def test_an_interruption_is_read_from_the_reason(reason: str, interrupted: bool) -> None:  # noqa: FBT001
    assert Ended(reason=reason).by_interruption() is interrupted


@pytest.mark.parametrize("at", ["2026-01-02T03:04:05+00:00", "2026-01-02T03:04:05", 1767323045])
def test_its_time_is_aware_and_in_utc(at: str | float) -> None:
    assert Ended(at=at).time() == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize("at", [None, "soon", 1e300])
def test_a_time_that_cannot_be_read_is_none(at: str | float | None) -> None:
    assert Ended(at=at).time() is None
