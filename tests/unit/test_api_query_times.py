"""Times in a query: points in time and ages."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from starlette.datastructures import QueryParams

from services.api.http.times import AGE, read_time
from services.api.submission.request import BadRequest

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


def _read(text: str) -> datetime | None:
    return read_time(QueryParams({"since": text}), "since", NOW)


def test_a_time_that_is_not_given_is_none() -> None:
    assert read_time(QueryParams(), "since", NOW) is None


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-11-24T10:00:00Z", datetime(2026, 11, 24, 10, tzinfo=UTC)),
        ("2026-11-24t10:00:00z", datetime(2026, 11, 24, 10, tzinfo=UTC)),
        ("2026-11-24T10:00Z", datetime(2026, 11, 24, 10, tzinfo=UTC)),
        ("2026-11-24T10:00:00.250Z", datetime(2026, 11, 24, 10, 0, 0, 250_000, tzinfo=UTC)),
        ("2026-11-24T10:00:00,123456789Z", datetime(2026, 11, 24, 10, 0, 0, 123_456, tzinfo=UTC)),
        ("2026-11-24T10:00:00+01:00", datetime(2026, 11, 24, 9, tzinfo=UTC)),
        ("2026-11-24T10:00:00 01:00", datetime(2026, 11, 24, 9, tzinfo=UTC)),
        ("2026-11-24T10:00:00-0130", datetime(2026, 11, 24, 11, 30, tzinfo=UTC)),
        ("0s", NOW),
        ("30s", NOW - timedelta(seconds=30)),
        ("90m", NOW - timedelta(minutes=90)),
        ("24h", NOW - timedelta(hours=24)),
        ("7d", NOW - timedelta(days=7)),
        ("2w", NOW - timedelta(days=14)),
        ("999999999w", datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_time_is_read_in_utc(text: str, at: datetime) -> None:
    assert _read(text) == at


@pytest.mark.parametrize(
    "text",
    [
        *("", "now", "yesterday", "7", "d", "-7d", "7 d", "1y", "\N{ARABIC-INDIC DIGIT SEVEN}d"),
        *("2026-11-24", "10:00", "2026-11-24T10:00:00", "2026-11-24T10:00:00Z\n"),
        *("2026-02-30T10:00:00Z", "2026-11-24T25:00:00Z", "2026-11-24T10:00:00+25:00"),
    ],
)
def test_another_text_is_refused_with_the_forms_that_are_taken(text: str) -> None:
    with pytest.raises(BadRequest, match=r"since must be an ISO 8601 time .* or an age"):
        _read(text)


def test_the_pattern_of_an_age_in_the_description_is_the_readers() -> None:
    for text, is_age in (("7d", True), ("0123456789d", False), ("7", False), ("1y", False)):
        assert bool(re.search(AGE, text)) == is_age
