"""How long a container may run after an interruption notice, whatever the instance's clock says."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from agent.docker_job_agent.http_client import Answer
from agent.docker_job_agent.metadata import (
    Metadata,
    Notice,
    Reading,
    parse_notice,
    read_date,
    seconds_until_stop,
)
from tests.unit.test_agent_claim import CannedHttp

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
MARGIN = 30.0


def left(seconds: float, now: datetime = NOW, action: str = "terminate") -> float:
    """Return how long the container may run, by the service's clock, *seconds* before the end."""
    notice = Notice(action, NOW + timedelta(seconds=seconds))
    return seconds_until_stop(notice, MARGIN, now, NOW)


@pytest.mark.parametrize("skew", [0, 600, -600, 1e9, -1e9])
def test_the_clock_that_gave_the_notice_measures_it(skew: float) -> None:
    now = NOW + timedelta(seconds=skew)
    assert [left(seconds, now) for seconds in (120, 100, 31, 30, 10, 0, -5)] == [
        90, 70, 1, 0, 0, 0, 0,
    ]  # fmt: skip


def test_an_instance_that_runs_long_after_its_notice_has_a_wrong_notice() -> None:
    assert [left(-30), left(-31), left(-480)] == [0, 90, 90]


def test_no_notice_is_longer_than_two_minutes() -> None:
    assert left(3600) == 90
    notice = Notice("terminate", NOW + timedelta(seconds=3600))
    assert seconds_until_stop(notice, MARGIN, NOW) == 90


def test_without_the_services_clock_what_cannot_be_counts_as_two_minutes_from_now() -> None:
    notice = Notice("terminate", NOW)
    for ahead, expected in (
        (-120, 90),
        (-100, 70),
        (-20, 0),
        (0, 0),
        (1, 90),
        (600, 90),
        (-600, 90),
    ):
        now = NOW + timedelta(seconds=ahead)
        assert seconds_until_stop(notice, MARGIN, now) == expected, ahead


@pytest.mark.parametrize("action", ["stop", "terminate", "another"])
def test_a_stop_is_announced_like_a_termination(action: str) -> None:
    assert left(120, action=action) == 90


def test_a_hibernation_begins_at_once() -> None:
    assert left(120, action="hibernate") == 0


def test_a_notice_without_a_time_is_two_minutes_long_by_the_services_clock() -> None:
    notice = parse_notice(json.dumps({"action": "terminate"}), NOW)
    assert notice is not None
    assert seconds_until_stop(notice, MARGIN, NOW + timedelta(hours=1), NOW) == 90


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("Wed, 02 Jan 2030 03:04:05 GMT", NOW),
        ("Wed, 02 Jan 2030 03:04:05 -0000", NOW),
        ("Wednesday, 02-Jan-30 03:04:05 GMT", NOW),
        (None, None),
        ("", None),
        ("now", None),
        ("Wed, 99 Jan 2030 03:04:05 GMT", None),
    ],
)
def test_the_time_of_the_service_is_read_from_its_answer(
    text: str | None, at: datetime | None
) -> None:
    assert read_date(text) == at


def test_a_reading_has_the_services_text_and_time() -> None:
    headers = {"date": "Wed, 02 Jan 2030 03:04:05 GMT"}
    http = CannedHttp(Answer(200, "t"), Answer(200, "text", headers), Answer(404, "", headers))
    metadata = Metadata(http)
    assert metadata.read("/path") == Reading("text", NOW)
    assert metadata.read("/path") is None
