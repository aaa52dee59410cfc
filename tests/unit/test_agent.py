"""The agent's pure parts: what goes into files, messages and decisions."""

from __future__ import annotations

import ast
import json
from datetime import UTC, datetime, timedelta

import pytest

from agent.build import PACKAGE
from agent.docker_job_agent.api import is_decided, is_definite, is_over, read_attempt_over
from agent.docker_job_agent.decisions import (
    INTERRUPTED,
    OVER,
    TERMINATED,
    TIMED_OUT,
    Outcome,
    decide_exit_callback,
    decide_final_callback,
    error_message,
)
from agent.docker_job_agent.environment import (
    Bounds,
    environment_for_children,
    read_bounds,
    read_config,
    read_metadata_url,
    take_bootstrap_token,
)
from agent.docker_job_agent.errors import ConfigError, CouldNotRunError
from agent.docker_job_agent.http_client import Answer
from agent.docker_job_agent.job import (
    Job,
    Resources,
    Settings,
    check_job,
    read_claim,
    read_settings,
)
from agent.docker_job_agent.lifetime import power_off, schedule_power_off
from agent.docker_job_agent.metadata import Notice, parse_notice, seconds_until_stop
from agent.docker_job_agent.retries import backoff_seconds
from services.api.http.bodies import SMALL_BYTES

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
SOURCES = sorted(PACKAGE.glob("*.py"))


def a_job(image: str = "alpine", env: dict[str, str] | None = None) -> Job:
    return Job(image, [], env or {}, None)


# -- the file itself


def test_the_agent_parses_as_python_3_9() -> None:
    for source in SOURCES:
        ast.parse(source.read_text(), feature_version=(3, 9))


def test_no_function_of_the_agent_is_longer_than_40_lines() -> None:
    functions = [
        node
        for source in SOURCES
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.FunctionDef)
    ]

    assert [f.name for f in functions if (f.end_lineno or 0) - f.lineno >= 40] == []


def test_no_module_of_the_agent_is_longer_than_300_lines() -> None:
    assert SOURCES
    assert [s.name for s in SOURCES if len(s.read_text().splitlines()) > 300] == []


# -- backoff, and what counts as received


def test_backoff_doubles_up_to_its_cap() -> None:
    waits = [backoff_seconds(failures, 1.0) for failures in (1, 2, 3, 50)]

    assert waits == [0.1, 0.2, 0.4, 10.0]


def test_half_of_a_backoff_is_left_to_chance() -> None:
    assert backoff_seconds(3, 0.0) == pytest.approx(0.2)


@pytest.mark.parametrize("status", [200, 301, 400, 401, 404, 409])
def test_the_apis_definite_answer_ends_the_call(status: int) -> None:
    assert is_definite(status)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
def test_an_answer_that_means_not_now_is_not_definite(status: int) -> None:
    assert not is_definite(status)


@pytest.mark.parametrize(
    ("status", "text", "decided", "over"),
    [
        (200, "{}", True, False),
        (200, "<html>", False, False),
        (200, '{"id": 1', False, False),
        (200, "[]", False, False),
        (204, "", False, False),
        (301, "{}", False, False),
        (400, '{"message": "no"}', True, False),
        (401, '{"message": "no"}', True, True),
        (401, "Unauthorized", False, False),
        (403, '{"error": "no"}', False, False),
        (404, "<html>", False, False),
        (409, '{"message": "over", "stop": true, "cause": "lost"}', True, True),
        (409, '{"message": "conflict"}', False, False),
        (500, '{"message": "internal error"}', False, False),
    ],
)
def test_only_the_apis_own_answer_decides(
    status: int, text: str, *, decided: bool, over: bool
) -> None:
    answer = Answer(status, text)

    assert (is_decided(answer), is_over(answer)) == (decided, over)


# -- the environment


def test_the_bootstrap_token_is_taken_out_of_the_environment() -> None:
    environment = {"DOCKER_JOB_BOOTSTRAP_TOKEN": "t", "PATH": "/bin"}

    assert take_bootstrap_token(environment) == "t"
    assert environment == {"PATH": "/bin"}


def test_children_inherit_nothing_of_ours() -> None:
    environment = {"DOCKER_JOB_API_URL": "http://x", "PATH": "/bin", "DOCKER_HOST": "unix:///x"}

    assert environment_for_children(environment) == {
        "PATH": "/bin",
        "DOCKER_HOST": "unix:///x",
    }


@pytest.mark.parametrize("lifetime", ["", "soon", "-1", "inf", "nan"])
def test_a_senseless_lifetime_becomes_one_hour(lifetime: str) -> None:
    bounds = read_bounds({"DOCKER_JOB_MAX_LIFETIME_SECONDS": lifetime})

    assert bounds == Bounds(3600.0, power_off=False, instance_dir=None)


def test_a_missing_variable_is_named() -> None:
    with pytest.raises(ConfigError, match="DOCKER_JOB_API_URL is not set"):
        read_config({"DOCKER_JOB_MAX_LIFETIME_SECONDS": "60"})


def test_the_metadata_service_is_asked_only_where_something_says_that_there_is_one() -> None:
    endpoint = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1"}

    assert read_metadata_url({}) is None
    assert read_metadata_url(endpoint) == "http://127.0.0.1:1"
    assert read_metadata_url({"DOCKER_JOB_METADATA": "ec2"}) == "http://169.254.169.254"


# -- the job


def test_a_claim_is_read_with_defaults_for_what_it_leaves_out() -> None:
    job, settings = read_claim(
        {"job": {"id": 1, "docker_image": "alpine", "command": None}, "settings": {"new": 1}}
    )

    assert job == Job("alpine", [], {}, None)
    assert job.resources == Resources()
    assert job.entrypoint is None
    assert settings == Settings()


def test_the_gpus_of_an_api_that_sends_no_resources_are_taken() -> None:
    old = read_claim({"job": {"docker_image": "alpine", "gpus": 2}})[0]
    new = read_claim(
        {"job": {"docker_image": "alpine", "gpus": 2, "resources": {"gpus": 2, "vcpus": 4}}}
    )[0]

    assert old.resources == Resources(gpus=2)
    assert new.resources == Resources(gpus=2, vcpus=4)


def test_senseless_settings_keep_their_defaults() -> None:
    settings = read_settings({"heartbeat_seconds": -1, "log_limit_bytes": "x"})

    assert settings == Settings()


def test_a_heartbeat_of_zero_seconds_is_no_busy_loop() -> None:
    assert read_settings({"heartbeat_seconds": 0}).heartbeat_seconds == 0.05


@pytest.mark.parametrize("answer", [None, [], {}, {"job": {}}, {"job": None}])
def test_a_claim_without_a_job_cannot_run(answer: object) -> None:
    with pytest.raises(CouldNotRunError):
        read_claim(answer)


@pytest.mark.parametrize("image", ["", "-v", "--privileged", "a b", "a\nb", "$(id)", "a;b", "é"])
def test_what_is_no_image_reference_is_refused(image: str) -> None:
    with pytest.raises(CouldNotRunError, match="is not an image reference"):
        check_job(a_job(image=image))


def test_image_references_of_every_form_are_taken() -> None:
    for image in ("alpine", "host:5000/a/b_c:1.2-x", "a/b@sha256:" + "0" * 64):
        check_job(a_job(image=image))


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A B", "A=B", "É", "A\n"])
def test_what_is_no_variable_name_is_refused(name: str) -> None:
    with pytest.raises(CouldNotRunError, match="does not name an environment variable"):
        check_job(a_job(env={name: "x"}))


def test_a_refused_value_is_not_in_the_message() -> None:
    value = "a\0b"
    with pytest.raises(CouldNotRunError, match=r"^the value of KEY contains") as refused:
        check_job(a_job(env={"KEY": value}))

    assert value not in str(refused.value)


# -- the notice


def test_a_notice_is_read_with_its_time() -> None:
    text = json.dumps({"action": "terminate", "time": "2030-01-02T03:06:05Z"})

    assert parse_notice(text, NOW) == Notice("terminate", NOW + timedelta(minutes=2))


@pytest.mark.parametrize("time", [None, "", "soon", 7])
def test_a_notice_of_unreadable_time_is_due_in_two_minutes(time: object) -> None:
    text = json.dumps({"action": "stop", "time": time})

    assert parse_notice(text, NOW) == Notice("stop", NOW + timedelta(minutes=2))


@pytest.mark.parametrize("text", ["", "<html>", "[]", "3", "{}", "null"])
def test_what_is_no_notice_is_none(text: str) -> None:
    assert parse_notice(text, NOW) is None


def test_the_container_keeps_the_notice_save_the_margin() -> None:
    notice = Notice("terminate", NOW + timedelta(seconds=120))

    assert seconds_until_stop(notice, 30, NOW) == 90
    assert seconds_until_stop(notice, 30, NOW + timedelta(seconds=100)) == 0


# -- the final callback

EXITED_3 = Outcome(3)


def test_exit_0_is_done_with_or_without_a_notice() -> None:
    for cause in (None, INTERRUPTED):
        assert decide_final_callback(cause, Outcome(0), [], None) == {"exit_code": 0}


def test_a_failure_bears_the_tail_and_the_code() -> None:
    callback = decide_final_callback(None, EXITED_3, ["a", "b"], None)

    assert callback == {"failed": "", "error_message": "a\nb", "exit_code": 3}


def test_a_failure_without_output_is_named_by_its_code() -> None:
    callback = decide_final_callback(None, EXITED_3, [], None)

    assert callback == {"failed": "", "error_message": "exited with code 3", "exit_code": 3}


@pytest.mark.parametrize("text", ["\x01" * 20_000, "\U0001f600" * 20_000, "x" * 200_000])
@pytest.mark.parametrize("outcome", [EXITED_3, Outcome(None), Outcome(3, "killed")])
def test_the_final_callback_is_as_small_as_the_api_takes_it(text: str, outcome: Outcome) -> None:
    noted = Outcome(None, text)
    for each in (outcome, noted):
        callback = decide_final_callback(None, each, [text] * 20, None)
        assert len(json.dumps(callback, ensure_ascii=False).encode()) < SMALL_BYTES


def test_an_interrupted_container_is_scheduled_again() -> None:
    callback = decide_final_callback(INTERRUPTED, Outcome(143), [], None)

    assert callback == {"schedule": "", "stopped": True, "exit_code": 143}


def test_a_container_that_its_machine_ended_is_scheduled_again_unless_the_attempt_is_over() -> None:
    outcome = Outcome(None, "the engine was restarted", again=True)

    assert decide_final_callback(None, outcome, ["its last line"], None) == {
        "schedule": "",
        "stopped": True,
        "error_message": "the engine was restarted",
    }
    assert decide_final_callback(None, outcome._replace(stopped=False), [], None) is None
    assert decide_final_callback(OVER, outcome, [], None) is None
    timed_out = decide_final_callback(TIMED_OUT, outcome, [], 60)
    assert timed_out is not None
    assert timed_out["timed_out"]


def test_a_stop_that_is_not_known_is_not_promised() -> None:
    outcome = Outcome(None, stopped=False)

    assert decide_final_callback(INTERRUPTED, outcome, [], None) is None


@pytest.mark.parametrize(
    ("outcome", "more"),
    [
        (Outcome(0), {"exit_code": 0}),
        (Outcome(7), {"exit_code": 7}),
        (Outcome(None), {}),
        (Outcome(None, stopped=False), {"stopped": False}),
    ],
)
def test_a_job_past_its_time_failed_whatever_its_exit_code_which_is_reported(
    outcome: Outcome, more: dict[str, object]
) -> None:
    callback = decide_final_callback(TIMED_OUT, outcome, [], 90.0)

    message = "timed out after 90 seconds"
    assert callback == {"failed": "", "error_message": message, "timed_out": True, **more}


@pytest.mark.parametrize(
    ("outcome", "callback"),
    [
        (Outcome(0), {"exit_code": 0}),
        (Outcome(7), {"failed": "", "error_message": "stopped", "exit_code": 7}),
        (Outcome(None), None),
        (Outcome(None, stopped=False), None),
    ],
)
def test_of_an_attempt_that_is_over_the_exit_code_is_reported(
    outcome: Outcome, callback: dict[str, object] | None
) -> None:
    assert decide_exit_callback(outcome) == callback


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        ({"cause": "cancelled", "kept": True}, ("cancelled", True)),
        ({"cause": "cancelled"}, ("cancelled", False)),
        ({"cause": None}, (None, False)),
        ({}, (None, False)),
        ([], (None, False)),
    ],
)
def test_what_an_attempt_ended_for_is_read_from_the_answer(
    answer: object, read: tuple[str | None, bool]
) -> None:
    assert read_attempt_over(answer) == read


@pytest.mark.parametrize("cause", [OVER, TERMINATED])
def test_an_attempt_that_is_over_has_no_final_callback(cause: str) -> None:
    assert decide_final_callback(cause, EXITED_3, [], None) is None


def test_a_container_that_could_not_run_fails_with_the_reason_and_no_code() -> None:
    callback = decide_final_callback(None, Outcome(None, "no such image"), [], None)

    assert callback == {"failed": "", "error_message": "no such image"}


def test_out_of_memory_is_reported_before_the_tail() -> None:
    assert error_message(["last"], Outcome(137, "out of memory")) == ("out of memory\nlast")


def test_a_reason_of_docker_s_is_printable() -> None:
    assert error_message([], Outcome(None, "\x1b[31mno\x1b[0m such\x07 image")) == "no such image"


# -- the machine's end


def test_the_machine_is_powered_off_harder_and_harder() -> None:
    tried: list[str] = []

    def fails(command: list[str], _seconds: float) -> bool:
        tried.append(" ".join(command))
        return False

    def sysrq() -> bool:
        tried.append("sysrq")
        return True

    power_off(fails, sysrq, lambda _: None)

    assert tried == ["shutdown -h now", "systemctl poweroff -ff", "sysrq"]


def test_the_shutdown_is_scheduled_in_whole_minutes_rounded_up() -> None:
    commands: list[list[str]] = []

    def works(command: list[str], _seconds: float) -> bool:
        commands.append(command)
        return True

    for seconds in (1.0, 3601.0):
        assert schedule_power_off(seconds, works)

    assert commands == [["shutdown", "-h", "+1"], ["shutdown", "-h", "+61"]]
