"""The bodies that agents send: claims, reports, callbacks."""

import json
from typing import Any

import pytest

from services.api.agents import requests
from services.api.agents.calls import Callback, Report
from services.api.agents.log_lines import MAX_LINE, MAX_LINES
from services.api.agents.requests import TokenClaim
from services.api.logs.bounds import Line
from services.api.submission.request import BadRequest

TOKEN = "0123456789abcdef" * 4
CLAIM = {
    "job_id": 1,
    "attempt": 2,
    "instance_id": "i-1",
    "token": TOKEN,
    "runtime": "docker",
}


def read_claim(body: Any) -> TokenClaim:
    return requests.read_claim(json.dumps(body).encode())


def read_report(body: Any) -> Report:
    return requests.read_report(json.dumps(body).encode())


def read_callback(body: Any) -> Callback:
    return requests.read_callback(json.dumps(body).encode())


def test_a_claim_is_read() -> None:
    assert read_claim(CLAIM) == TokenClaim(
        job_id=1, attempt=2, instance_id="i-1", token=TOKEN, runtime="docker"
    )


@pytest.mark.parametrize("field", CLAIM)
def test_a_claim_without_one_of_its_fields_is_refused_by_name(field: str) -> None:
    body = {name: value for name, value in CLAIM.items() if name != field}
    with pytest.raises(BadRequest, match=f"^{field} must be"):
        read_claim(body)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("token", TOKEN[:-1]),
        ("token", TOKEN.upper()),
        ("token", TOKEN + "\n"),
        ("token", 1),
        ("instance_id", ""),
        ("instance_id", "i" * 201),
        ("instance_id", 7),
        ("runtime", "podman"),
        ("runtime", ["docker"]),
        ("job_id", 0),
        ("job_id", -1),
        ("job_id", True),
        ("job_id", "1"),
        ("job_id", 2**31),
        ("attempt", 1.0),
    ],
)
def test_a_claim_with_a_wrong_field_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(BadRequest, match=f"^{field} must be"):
        read_claim({**CLAIM, field: value})


@pytest.mark.parametrize("body", [None, [], "x", 1])
def test_what_is_no_object_is_refused(body: Any) -> None:
    for read in (read_claim, read_report, read_callback):
        with pytest.raises(BadRequest, match="the body must be a JSON object"):
            read(body)


def a_line(**fields: Any) -> dict[str, Any]:
    return {"at": "2026-01-01T00:00:00Z", "stream": "stdout", "text": "hello", **fields}


def batch(*lines: Any, seq: Any = 1) -> dict[str, Any]:
    return {"phase": None, "logs": {"seq": seq, "lines": list(lines)}}


def test_an_empty_report_is_a_heartbeat() -> None:
    assert read_report({}) == read_report({"phase": None, "logs": None}) == Report()


@pytest.mark.parametrize("phase", ["pulling", "running", "stopping"])
def test_a_report_names_a_phase(phase: str) -> None:
    assert read_report({"phase": phase}) == Report(phase=phase)


@pytest.mark.parametrize("phase", ["ended", "booting", "", 1, ["running"], {}])
def test_a_report_of_any_other_phase_is_refused(phase: Any) -> None:
    with pytest.raises(BadRequest, match="phase must be null or one of"):
        read_report({"phase": phase})


def test_a_report_brings_lines() -> None:
    read = read_report(batch(a_line(), a_line(stream="stderr", text="a\0b")))
    assert read.seq == 1
    assert read.lines == (
        Line("2026-01-01T00:00:00Z", "stdout", "hello"),
        Line("2026-01-01T00:00:00Z", "stderr", "a\N{REPLACEMENT CHARACTER}b"),
    )


@pytest.mark.parametrize("continues", ["unfinished", "split"])
def test_a_piece_of_a_line_says_that_the_line_continues(continues: str) -> None:
    [line] = read_report(batch({**a_line(), "continues": continues})).lines
    assert line.continues == continues


@pytest.mark.parametrize("continues", [None, "", "folded", "UNFINISHED"])
def test_how_a_line_continues_is_ignored_if_it_is_not_known(continues: str | None) -> None:
    """A later agent may say more."""
    [line] = read_report(batch({**a_line(), "continues": continues})).lines
    assert line.continues is None


def test_a_long_line_is_cut() -> None:
    assert len(read_report(batch(a_line(text="x" * (MAX_LINE + 1)))).lines[0][2]) == MAX_LINE


@pytest.mark.parametrize(
    "body",
    [
        batch(a_line(), seq=0),
        batch(a_line(), seq=None),
        batch(a_line(), seq="1"),
        batch("hello"),
        batch(a_line(stream="stdin")),
        batch(a_line(stream=[])),
        batch(a_line(text=1)),
        batch(a_line(at=1)),
        batch(a_line(at="yesterday")),
        batch(a_line(at="2026-01-01\x0000:00:00Z")),
        {"logs": []},
        {"logs": {"seq": 1}},
        {"logs": {"seq": 1, "lines": {}}},
        batch(*[a_line()] * (MAX_LINES + 1)),
    ],
)
def test_a_batch_that_is_not_right_is_refused(body: Any) -> None:
    with pytest.raises(BadRequest, match=r"^(seq|logs)"):
        read_report(body)


@pytest.mark.parametrize("body", [{}, {"exit_code": 0}, {"exit_code": None}])
def test_no_key_is_done(body: Any) -> None:
    assert read_callback(body) == Callback(cause="done", stopped=True, exit_code=0)


@pytest.mark.parametrize("value", ["", None, False, 0, "yes", [], {}])
def test_the_presence_of_schedule_counts_and_not_its_value(value: Any) -> None:
    assert read_callback({"schedule": value}) == Callback(cause="interrupted", stopped=False)


@pytest.mark.parametrize("value", ["", None, False, 0, "yes", [], {}])
def test_the_presence_of_failed_counts_and_not_its_value(value: Any) -> None:
    read = read_callback({"failed": value, "error_message": "Some message", "exit_code": 3})
    assert read == Callback(cause="failed", stopped=True, exit_code=3, message="Some message")


def test_a_notice_may_report_the_container_stopped() -> None:
    read = read_callback({"schedule": "", "stopped": True, "exit_code": 143})
    assert read == Callback(cause="interrupted", stopped=True, exit_code=143)


def test_a_failure_may_report_the_time_limit() -> None:
    read = read_callback({"failed": "", "error_message": "too long", "timed_out": True})
    assert read == Callback(cause="timed_out", stopped=True, message="too long")


@pytest.mark.parametrize("message", [None, ""])
def test_a_failure_without_a_message_gets_one(message: Any) -> None:
    assert read_callback({"failed": "", "error_message": message}).message == "the container failed"


def test_of_a_long_message_the_end_is_kept_and_a_nul_is_not() -> None:
    message = read_callback({"failed": "", "error_message": "x" * 20_000 + "\0end"}).message
    assert message is not None
    assert len(message) == 16_384
    assert message.endswith("x\N{REPLACEMENT CHARACTER}end")


@pytest.mark.parametrize(
    "body",
    [
        {"schedule": "", "failed": ""},
        {"exit_code": 3},
        {"exit_code": "0"},
        {"exit_code": True},
        {"exit_code": 2**31},
        {"failed": "", "error_message": 1},
        {"failed": "", "exit_code": 1.5},
    ],
)
def test_a_callback_that_contradicts_itself_is_refused(body: Any) -> None:
    with pytest.raises(BadRequest):
        read_callback(body)


def test_a_failed_pull_is_a_cause_and_may_be_for_good() -> None:
    body = {"failed": "", "error_message": "denied", "pull_failed": True}
    read = read_callback(body)
    assert (read.cause, read.stopped, read.for_good) == ("pull_failed", True, False)
    assert read_callback({**body, "for_good": True}).for_good


def test_a_failure_may_leave_open_whether_the_container_stopped() -> None:
    body = {"failed": "", "error_message": "lost sight of it"}
    assert read_callback(body).stopped
    assert not read_callback({**body, "stopped": False}).stopped


def test_a_rebalance_recommendation_is_reported_by_itself() -> None:
    assert read_report({"rebalance": True}) == Report(rebalance=True)
    assert read_report({"rebalance": False}) == Report()
    with pytest.raises(BadRequest, match=r"^rebalance goes without a phase"):
        read_report({"rebalance": True, "phase": "running"})


@pytest.mark.parametrize("value", ["false", "", 0, 1, [], {}])
@pytest.mark.parametrize("name", ["stopped", "timed_out", "pull_failed", "for_good"])
def test_a_flag_is_a_boolean_and_nothing_like_one(name: str, value: Any) -> None:
    with pytest.raises(BadRequest, match=f"^{name} must be true or false$"):
        read_callback({"failed": "", name: value})


def test_a_container_counts_as_stopped_only_if_that_is_reported() -> None:
    assert read_callback({"failed": ""}).stopped
    for value in (False, None):
        assert not read_callback({"failed": "", "stopped": value}).stopped
        assert not read_callback({"schedule": "", "stopped": value}).stopped
