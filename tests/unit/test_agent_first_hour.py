"""The agent's wait for EC2 in the free first hour, and the age of its instance: the pure parts."""

import json
from typing import Any

import pytest

from agent.docker_job_agent.claim import NoticeCheck, read_free_until
from agent.docker_job_agent.decisions import LATE_SECONDS, decide_wait_for_ec2
from agent.docker_job_agent.http_client import Answer
from agent.docker_job_agent.metadata import Metadata, seconds_since_launch
from tests.unit.test_agent_claim import CannedHttp

NOON = "Fri, 02 Jan 2026 12:00:00 GMT"
TOKEN = Answer(200, "a token")


def test_the_agent_waits_until_ec2_is_late() -> None:
    assert decide_wait_for_ec2("terminate", 220.0, 3600.0, now=190.0) == 30 + LATE_SECONDS
    assert decide_wait_for_ec2("terminate", 220.0, 3600.0, now=220 + LATE_SECONDS) == 0


@pytest.mark.parametrize(
    ("action", "taken_at", "free_until"),
    [
        ("terminate", 3600.0, 3600.0),  # taken when the hour is over
        ("terminate", 220.0, None),  # not free, or an API of an earlier release
        ("terminate", None, 3600.0),
        ("stop", 220.0, 3600.0),  # a stopped instance is not taken, and its disk costs
        ("hibernate", 220.0, 3600.0),
        ("", None, 3600.0),  # no notice
    ],
)
def test_it_does_not_wait_in_vain(
    action: str, taken_at: float | None, free_until: float | None
) -> None:
    assert decide_wait_for_ec2(action, taken_at, free_until, now=190.0) == 0


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"settings": {"free_if_interrupted_within_seconds": 600}}, 700.0),
        ({"settings": {"free_if_interrupted_within_seconds": 0}}, None),
        ({"settings": {"free_if_interrupted_within_seconds": "600"}}, None),
        ({"settings": {}}, None),
        ({"settings": None}, None),
        ({}, None),
        (None, None),
        ([], None),
    ],
)
def test_what_is_left_of_the_hour_comes_with_an_answer_to_the_claim(
    answer: object, expected: float | None
) -> None:
    assert read_free_until(answer, now=100.0) == expected


def test_a_notice_while_waiting_says_when_ec2_takes_the_instance() -> None:
    notice = json.dumps({"action": "terminate", "time": "2026-01-02T12:01:30Z"})
    check = NoticeCheck(Metadata(CannedHttp(TOKEN, Answer(200, notice, {"date": NOON}))))
    check.poll()
    assert check.seen
    assert check.taken_at is not None


def age_by(document: Any, headers: dict[str, str]) -> float | None:
    text = document if isinstance(document, str) else json.dumps(document)
    return seconds_since_launch(Metadata(CannedHttp(TOKEN, Answer(200, text, headers))))


def test_the_age_of_the_instance_is_by_the_services_own_clock() -> None:
    assert age_by({"pendingTime": "2026-01-02T11:58:30Z"}, {"date": NOON}) == 90.0
    assert age_by({"pendingTime": "2026-01-02T12:00:01Z"}, {"date": NOON}) == 0.0


@pytest.mark.parametrize(
    ("document", "headers"),
    [
        ({"pendingTime": "2026-01-02T11:58:30Z"}, {}),  # this machine's clock may be wrong
        ({"pendingTime": "2026-01-02T11:58:30"}, {"date": NOON}),
        ({"pendingTime": None}, {"date": NOON}),
        ({}, {"date": NOON}),
        ([], {"date": NOON}),
        ("<html>", {"date": NOON}),
    ],
)
def test_an_age_that_cannot_be_read_is_unknown(document: Any, headers: dict[str, str]) -> None:
    assert age_by(document, headers) is None


def test_a_service_that_does_not_answer_has_no_age() -> None:
    assert seconds_since_launch(None) is None
    assert seconds_since_launch(Metadata(CannedHttp(None))) is None
    assert seconds_since_launch(Metadata(CannedHttp(TOKEN, Answer(404, "")))) is None
