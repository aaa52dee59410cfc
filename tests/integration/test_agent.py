"""The agent as a process of its own, on the simulated runtime.

The API and the metadata service before it are small but real HTTP servers. test_agent_docker.py
plays on the same stage. Nothing sleeps: tests wait for a call to arrive or a process to end.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pytest

from agent.docker_job_agent.api import Api
from agent.docker_job_agent.children import Child
from agent.docker_job_agent.environment import Config
from agent.docker_job_agent.job import read_settings
from agent.docker_job_agent.reporter import Reporter
from tests.support.agent_file import agent_file, python_of

AGENT = agent_file()
BOOTSTRAP_TOKEN = "bootstrap-canary"
QUICK = {
    "heartbeat_seconds": 0.2,
    "stop_grace_seconds": 2,
    "interruption_margin_seconds": 30,
    "metadata_poll_seconds": 0.05,
    "log_batch_seconds": 0.05,
    "log_limit_bytes": 1048576,
    "error_tail_lines": 3,
}
PATIENCE = 20.0


# -- the stage


class Call(NamedTuple):
    """One request that the agent made; `answered` is whether the answer was below 500."""

    kind: str
    token: str
    body: dict[str, Any]
    answered: bool


class Server:
    """A small HTTP server on a port of its own; `answer` gives status and text for each request.

    Status 0 is no answer: the connection is closed.
    """

    def __init__(self, idle_seconds: float | None = None) -> None:
        stage = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = idle_seconds  # after which the server closes a kept connection
            disable_nagle_algorithm = True

            def _handle(self) -> None:
                raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, text = stage.answer(self.command, self.path, dict(self.headers), raw)
                if status == 0:
                    self.close_connection = True
                    return
                with suppress(ConnectionError):  # the agent was ended while it waited
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(text.encode())))
                    self.end_headers()
                    self.wfile.write(text.encode())

            do_GET = do_POST = do_PUT = _handle  # noqa: N815 - http.server's names

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def answer(
        self, method: str, path: str, headers: dict[str, str], raw: bytes
    ) -> tuple[int, str]:
        raise NotImplementedError

    @contextmanager
    def serving(self) -> Iterator[None]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


class FakeApi(Server):
    """The API's four agent routes; records each call and lets a test wait for one."""

    def __init__(self, idle_seconds: float | None = None, **job: object) -> None:
        super().__init__(idle_seconds)
        self.job: dict[str, object] = {
            "id": 7,
            "docker_image": "alpine",
            "command": None,
            "env_vars": {},
        }
        self.job |= {"timeout_seconds": None, **job}
        self.settings: dict[str, float] = dict(QUICK)
        self.first_answers: dict[str, list[int]] = {"claim": [], "report": [], "callback": []}
        self.pages: dict[str, list[tuple[int, str]]] = {}  # what a proxy answers first
        self.away = False  # no call is answered
        self.over = False
        self.keeps = False  # lines and exit code of an attempt that is over
        self.hang: threading.Event | None = None
        self.calls: list[Call] = []
        self._changed = threading.Condition()

    def answer(
        self, method: str, path: str, headers: dict[str, str], raw: bytes
    ) -> tuple[int, str]:
        kinds = {
            "/agent/claim": "claim",
            "/agent/jobs/7/report": "report",
            "/callback/7": "callback",
        }
        kind = kinds[path]
        body = json.loads(raw)
        with self._changed:
            if self.away:
                return 0, ""
            if pages := self.pages.get(kind):
                return pages.pop(0)
            first = self.first_answers[kind]
            status = first.pop(0) if first else 409 if self.over and kind == "report" else 200
            token = headers["Authorization"].removeprefix("Bearer ")
            self.calls.append(
                Call(kind, token, body, answered=status < 500 and status not in (413, 429))
            )
            self._changed.notify_all()
            reply: dict[str, Any] = {"message": "staged"} if status >= 400 else {}
            reply |= {"stop": True, "cause": None} if status == 409 else {}
            if self.over and self.keeps and kind != "claim":
                adds = kind == "callback" or body["logs"] is not None
                status, reply = 409, {"message": "over", "stop": True, "cause": "cancelled"}
                reply |= {"kept": True} if adds else {}
        if self.hang:
            self.hang.wait(PATIENCE)
        claimed = {"job": self.job, "attempt": 1, "settings": self.settings}
        return status, json.dumps(claimed if kind == "claim" and status == 200 else reply)

    def wait_for(self, what: Callable[[], object]) -> None:
        """Wait until a call makes `what` true."""
        with self._changed:
            assert self._changed.wait_for(what, PATIENCE), self.calls

    def change(self, **attributes: object) -> None:
        with self._changed:
            for name, value in attributes.items():
                setattr(self, name, value)

    def of(self, kind: str) -> list[Call]:
        return [call for call in self.calls if call.kind == kind]

    @property
    def callbacks(self) -> list[dict[str, Any]]:
        return [call.body for call in self.of("callback") if call.answered]

    @property
    def phases(self) -> list[str]:
        reports = [call.body["phase"] for call in self.of("report") if call.answered]
        return [phase for phase in reports if phase]

    def lines(self, stream: str) -> list[str]:
        """Return the texts of the received lines, and of parts of lines."""
        return [line["text"] for line in self.parts(stream)]

    def whole_lines(self, stream: str) -> list[str]:
        """Return the received lines, made of their parts; an unfinished one too."""
        lines: list[str] = []
        goes_on = False
        for part in self.parts(stream):
            text, before = part["text"], lines.pop() if goes_on else ""
            lines.append(text[1:] if goes_on and text.startswith("\r") else before + text)
            goes_on = "continues" in part
        return lines

    def parts(self, stream: str) -> list[dict[str, str]]:
        """Return the received lines, each batch once."""
        batches = {
            call.body["logs"]["seq"]: call.body["logs"]["lines"]
            for call in self.of("report")
            if call.answered and call.body["logs"]
        }
        return [
            line
            for _, lines in sorted(batches.items())
            for line in lines
            if line["stream"] == stream
        ]


class FakeMetadata(Server):
    """IMDSv2: every question needs a session token, and every token is good for one question.

    Tokens are valid side by side, as EC2's are: several threads ask.
    """

    def __init__(self) -> None:
        super().__init__()
        self.notice: str | None = None
        self._numbers = itertools.count(1)
        self._tokens: set[str] = set()

    def give_notice(self, seconds: float) -> None:
        at = datetime.now(UTC) + timedelta(seconds=seconds)
        self.notice = json.dumps({"action": "terminate", "time": f"{at:%Y-%m-%dT%H:%M:%SZ}"})

    def answer(
        self, method: str, path: str, headers: dict[str, str], raw: bytes
    ) -> tuple[int, str]:
        given = {name.lower(): value for name, value in headers.items()}
        if method == "PUT":
            assert path == "/latest/api/token"
            assert given["x-aws-ec2-metadata-token-ttl-seconds"]
            token = f"token-{next(self._numbers)}"
            self._tokens.add(token)
            return 200, token
        try:
            self._tokens.remove(given.get("x-aws-ec2-metadata-token", ""))
        except KeyError:
            return 401, ""
        if path == "/latest/meta-data/spot/instance-action" and self.notice:
            return 200, self.notice
        return 404, ""


class Addressed(Protocol):
    """API at a given address."""

    url: str


class AgentProcess:
    """The agent, started as the process adapter starts it: a session of its own and a directory."""

    def __init__(
        self, api: Addressed, directory: Path, python: str = sys.executable, **env: str
    ) -> None:
        self.directory = directory
        self.instance_id = f"i-test-{os.getpid()}-{directory.parent.name}"
        directory.mkdir(exist_ok=True)
        environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environment |= {
            "DOCKER_JOB_API_URL": api.url,
            "DOCKER_JOB_JOB_ID": "7",
            "DOCKER_JOB_ATTEMPT": "1",
            "DOCKER_JOB_INSTANCE_ID": self.instance_id,
            "DOCKER_JOB_BOOTSTRAP_TOKEN": BOOTSTRAP_TOKEN,
            "DOCKER_JOB_MAX_LIFETIME_SECONDS": "60",
            "DOCKER_JOB_RUNTIME": "simulated",
            "DOCKER_JOB_INSTANCE_DIR": str(directory),
            "DOCKER_JOB_TERMINATE_GRACE_SECONDS": "1",
        } | env
        with (directory / "stderr").open("ab") as stderr:
            self.process = subprocess.Popen(
                [python, str(AGENT)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
            )

    def wait(self) -> int:
        return self.process.wait(PATIENCE)

    @property
    def log(self) -> str:
        return (self.directory / "stderr").read_text()

    @property
    def reason(self) -> str:
        return str(json.loads((self.directory / "ended").read_text())["reason"])

    def children(self) -> list[int]:
        """Return the process ids of the children that its main thread started."""
        pid = self.process.pid
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def child(self) -> int:
        """Return the process id of its one child."""
        [child] = self.children()
        return child


@contextmanager
def running(api: FakeApi, directory: Path, **env: str) -> Iterator[AgentProcess]:
    """Run an agent before an API that serves; kill it at the end, if it is still alive."""
    with api.serving():
        agent = AgentProcess(api, directory, **env)
        try:
            yield agent
        finally:
            agent.process.kill()
            agent.wait()


def wait_until_ended(descriptor: int) -> bool:
    """Return whether the process of a pidfd ended in time."""
    try:
        return bool(select.select([descriptor], [], [], PATIENCE)[0])
    finally:
        os.close(descriptor)


# -- a job that ends by itself


def test_a_job_that_exits_0_is_done_and_its_output_is_kept(tmp_path: Path) -> None:
    env = {"KEY": "value-canary", "SIMULATE_OUTPUT": "hello world", "SIMULATE_SECONDS": "0"}
    api = FakeApi(env_vars=env, command=["echo", "a b"])
    with running(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    assert api.callbacks == [{"exit_code": 0}]
    assert api.phases == ["running"]
    would_run, *rest = api.lines("stdout")
    assert rest == ["hello world"]
    assert would_run.startswith("simulated, no container engine: would run docker run ")
    assert would_run.endswith(
        "--env KEY --env SIMULATE_OUTPUT --env SIMULATE_SECONDS alpine echo 'a b'"
    )
    assert "value-canary" not in would_run
    assert "value-canary" not in agent.log
    assert agent.reason == "final callback exit_code answered with status 200"
    assert (agent.directory / "pid").read_text() == str(agent.process.pid)


def test_the_attempt_token_is_the_agents_own_and_no_token_is_ever_logged(tmp_path: Path) -> None:
    api = FakeApi()
    with running(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    [claim] = api.of("claim")
    token = claim.body["token"]
    assert claim.token == BOOTSTRAP_TOKEN
    assert re.fullmatch("[0-9a-f]{64}", token)
    assert claim.body | {"token": "", "instance_id": ""} == {
        "job_id": 7,
        "attempt": 1,
        "instance_id": "",
        "token": "",
        "runtime": "simulated",
    }
    assert {call.token for call in api.calls if call.kind != "claim"} == {token}
    assert token not in agent.log
    assert BOOTSTRAP_TOKEN not in agent.log


def test_a_job_that_exits_3_fails_with_its_code_and_its_last_lines(tmp_path: Path) -> None:
    api = FakeApi(env_vars={"SIMULATE_EXIT_CODE": "3", "SIMULATE_ERROR": "it broke"})
    with running(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    assert api.callbacks == [{"failed": "", "error_message": "it broke", "exit_code": 3}]
    assert api.lines("stderr") == ["it broke"]


def test_a_failure_that_prints_nothing_names_its_code(tmp_path: Path) -> None:
    api = FakeApi(env_vars={"SIMULATE_EXIT_CODE": "3"})
    with running(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    assert api.callbacks[0]["error_message"] == "simulated: exit code 3"


def test_a_job_with_a_bad_variable_name_fails_with_the_reason(tmp_path: Path) -> None:
    api = FakeApi(env_vars={"BAD-NAME": "x"})
    with running(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    message = "'BAD-NAME' does not name an environment variable"
    assert api.callbacks == [{"failed": "", "error_message": message}]


def test_an_old_python_runs_it_too(tmp_path: Path) -> None:
    python = python_of("3.9")
    api = FakeApi(env_vars={"SIMULATE_OUTPUT": "old"})
    with running(api, tmp_path / "i", python=python) as agent:
        assert agent.wait() == 0

    assert api.callbacks == [{"exit_code": 0}]
    assert api.lines("stdout")[1:] == ["old"]


# -- an API that is slow to answer


def test_a_claim_is_repeated_with_the_same_token_until_it_is_received(tmp_path: Path) -> None:
    api = FakeApi()
    api.first_answers["claim"] = [503, 429]
    with running(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    assert len(api.of("claim")) == 3
    assert len({call.body["token"] for call in api.of("claim")}) == 1
    assert api.callbacks == [{"exit_code": 0}]


def test_a_callback_is_repeated_until_it_is_received(tmp_path: Path) -> None:
    api = FakeApi()
    api.first_answers["callback"] = [503, 503, 429]
    with running(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    assert [call.body for call in api.of("callback")] == [{"exit_code": 0}] * 4


def test_a_batch_that_was_not_received_comes_again_under_its_number(tmp_path: Path) -> None:
    api = FakeApi(env_vars={"SIMULATE_OUTPUT": "kept"})
    api.first_answers["report"] = [503, 503, 503]
    with running(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    batches = [call.body["logs"] for call in api.of("report") if call.body["logs"]]
    seen = {batch["seq"]: batch["lines"] for batch in batches}
    assert all(seen[batch["seq"]] == batch["lines"] for batch in batches)
    assert sorted(seen) == list(range(1, len(seen) + 1))
    assert api.lines("stdout")[1:] == ["kept"]
    assert api.phases == ["running"]


def report_all(
    api: FakeApi, script: str, limit_bytes: int = 1024 * 1024, disk: Path | None = None
) -> float:
    """Run a Python program under the agent's log pump alone; returns the seconds that it ran."""
    config = Config(
        api_url=api.url,
        job_id=7,
        attempt=1,
        instance_id="i",
        deployment="",
        runtime="simulated",
        metadata_url=None,
        terminate_grace_seconds=1,
    )
    settings = read_settings({**QUICK, "log_limit_bytes": limit_bytes})
    ended = threading.Event()
    with api.serving():
        reporter = Reporter(
            Api(config, "token"), settings, lambda: None, None if disk is None else str(disk)
        )
        reporter.start()
        started = time.monotonic()
        Child(
            [sys.executable, "-c", script],
            {},
            reporter.add_line,
            ended.set,
            wait_for_room=reporter.wait_for_room,
        )
        assert ended.wait(PATIENCE)
        seconds = time.monotonic() - started
        reporter.finish(PATIENCE)
    return seconds


def numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


COUNT = "for n in range({0}): print(n)"


@pytest.mark.parametrize("count", [40_000, 200_000])
def test_all_of_a_fast_long_log_arrives_in_order_though_the_api_refuses_for_a_while(
    count: int,
) -> None:
    api = FakeApi()
    api.first_answers["report"] = [200, 503, 503, 429, 503, 500, 503]
    report_all(api, COUNT.format(count), 10**8)

    assert api.lines("stdout") == numbers(count)
    assert api.lines("docker-job") == []


def test_who_prints_waits_while_the_api_is_slow_and_nothing_is_lost() -> None:
    api = FakeApi()
    api.hang = threading.Event()
    line = "x" * 1000
    thread = threading.Timer(1.0, api.hang.set)
    thread.start()
    seconds = report_all(api, f"for n in range(6000): print({line!r})", 10**8)
    thread.join()

    assert seconds > 0.9  # 6 MB: more than is held in memory
    assert api.lines("stdout") == [line] * 6000
    assert api.lines("docker-job") == []


def test_of_a_log_over_its_limit_beginning_and_end_arrive_and_the_rest_is_counted() -> None:
    api = FakeApi()
    report_all(api, COUNT.format(60_000), 20_000)

    lines, sent = numbers(60_000), api.lines("stdout")
    batches = {
        call.body["logs"]["seq"]: call.body["logs"].get("left_out", {"lines": 0, "bytes": 0})
        for call in api.of("report")
        if call.body["logs"]
    }
    assert sent[:1000] == lines[:1000]
    assert sent[-3000:] == lines[-3000:]
    assert len(sent) + sum(each["lines"] for each in batches.values()) == len(lines)
    missing = sum(len(line) + 1 for line in lines) - sum(len(line) + 1 for line in sent)
    assert sum(each["bytes"] for each in batches.values()) == missing
    assert api.lines("docker-job") == []


def test_an_outage_of_the_apis_database_does_not_cost_the_last_lines(tmp_path: Path) -> None:
    api = FakeApi(env_vars={"SIMULATE_OUTPUT": "kept"})
    api.settings["heartbeat_seconds"] = 0.05  # no wait between two tries is longer
    api.first_answers["report"] = [503] * 30
    with running(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    assert api.lines("stdout")[1:] == ["kept"]
    assert api.calls[-1].kind == "callback"


def test_a_report_that_is_refused_leaves_a_note_that_says_so() -> None:
    api = FakeApi()
    api.first_answers["report"] = [413]
    report_all(api, COUNT.format(1500))

    [note] = api.lines("docker-job")
    assert note == "[docker-job: 1000 lines dropped, the API refused them with 413]"
    assert api.lines("stdout") == numbers(1500)[1000:]


def test_logs_that_the_api_cannot_take_do_not_hold_back_the_final_callback(tmp_path: Path) -> None:
    api = FakeApi()
    api.first_answers["report"] = [500] * 100
    with running(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    assert api.callbacks == [{"exit_code": 0}]


@pytest.mark.parametrize("status", [401, 403, 409])
def test_a_refused_claim_ends_the_agent_and_nothing_runs(tmp_path: Path, status: int) -> None:
    api = FakeApi()
    api.first_answers["claim"] = [status]
    with running(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    assert [call.kind for call in api.calls] == ["claim"]
    assert agent.reason == f"the claim was refused with status {status}"


def test_heartbeats_go_on_while_the_job_is_silent(tmp_path: Path) -> None:
    api = FakeApi(env_vars={"SIMULATE_SECONDS": "60"})
    with running(api, tmp_path / "i"):
        api.wait_for(lambda: len([c for c in api.of("report") if not c.body["logs"]]) >= 4)


def test_a_kept_connection_that_the_api_has_closed_costs_nothing(tmp_path: Path) -> None:
    api = FakeApi(idle_seconds=0.05, env_vars={"SIMULATE_SECONDS": "0.7"})
    with running(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    assert api.callbacks == [{"exit_code": 0}]
    assert "not answered" not in agent.log


# -- what stands between agent and API

HTML = "<html><body>Service</body></html>"
PAGES = [
    (200, HTML),
    (200, '{"id": 7, "sta'),  # cut off
    (302, ""),
    (401, '{"error": "login"}'),
    (403, HTML),
    (404, HTML),
    (409, '{"message": "conflict"}'),
    (500, HTML),
]


@pytest.mark.parametrize("kind", ["claim", "callback"])
@pytest.mark.parametrize("half", [0, 1])
def test_the_answers_of_a_proxy_decide_nothing(tmp_path: Path, kind: str, half: int) -> None:
    api = FakeApi()
    api.pages[kind] = PAGES[half::2]
    with running(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    assert api.pages[kind] == []
    assert api.phases == ["running"]
    assert api.callbacks == [{"exit_code": 0}]


def test_a_proxy_that_answers_reports_neither_stops_the_container_nor_loses_lines(
    tmp_path: Path,
) -> None:
    api = FakeApi(env_vars={"SIMULATE_SECONDS": "1", "SIMULATE_OUTPUT": "kept"})
    with running(api, tmp_path / "i") as agent:
        api.wait_for(lambda: "running" in api.phases)
        api.change(pages={"report": [*PAGES, *PAGES]})
        assert agent.wait() == 0

    assert api.pages["report"] == []
    assert api.lines("stdout")[1:] == ["kept"]
    assert api.callbacks == [{"exit_code": 0}]


def test_an_api_that_is_away_when_the_container_ends_gets_the_result_later(tmp_path: Path) -> None:
    api = FakeApi(env_vars={"SIMULATE_EXIT_CODE": "4"})
    api.first_answers["callback"] = [500, 502, 504]
    with running(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    [result] = api.callbacks
    assert result["exit_code"] == 4


# -- a job that is stopped


def test_a_job_past_its_time_limit_is_stopped_and_fails(tmp_path: Path) -> None:
    api = FakeApi(env_vars={"SIMULATE_SECONDS": "60"}, timeout_seconds=0.3)
    with running(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    callback = {"failed": "", "error_message": "timed out after 0.3 seconds", "timed_out": True}
    assert api.callbacks == [{**callback, "exit_code": 143}]
    assert api.phases == ["running", "stopping"]


def test_an_attempt_that_is_over_is_stopped_without_a_final_callback(tmp_path: Path) -> None:
    api = FakeApi(env_vars={"SIMULATE_SECONDS": "60"})
    with running(api, tmp_path / "i") as agent:
        api.wait_for(lambda: "running" in api.phases)
        child = os.pidfd_open(agent.child())
        api.change(over=True)
        assert agent.wait() == 0
        assert wait_until_ended(child)

    assert api.of("callback") == []
    assert agent.reason == "no final callback: over"


def test_what_an_attempt_that_is_over_still_prints_and_how_it_exits_is_reported(
    tmp_path: Path,
) -> None:
    api = FakeApi(env_vars={"SIMULATE_SECONDS": "60"})
    api.keeps = True
    with running(api, tmp_path / "i") as agent:
        api.wait_for(lambda: "running" in api.phases)
        api.change(over=True)
        assert agent.wait() == 0

    callback = {"failed": "", "error_message": "stopped", "exit_code": 143}
    assert [call.body for call in api.of("callback")] == [callback]
    assert agent.reason == "the attempt was over, its exit code was kept"


def test_an_interrupted_job_is_stopped_in_time_and_scheduled_again(tmp_path: Path) -> None:
    api = FakeApi(env_vars={"SIMULATE_SECONDS": "60"})
    metadata = FakeMetadata()
    with metadata.serving():
        endpoint = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.url}
        with running(api, tmp_path / "i", **endpoint) as agent:
            api.wait_for(lambda: "running" in api.phases)
            metadata.give_notice(seconds=31.5)  # the margin is 30
            assert agent.wait() == 0

    stopped = {"schedule": "", "stopped": True, "exit_code": 143}
    assert api.callbacks == [{"schedule": ""}, stopped]
    assert api.phases == ["running", "stopping"]


def test_an_interrupted_job_that_still_exits_0_is_done(tmp_path: Path) -> None:
    api = FakeApi(env_vars={"SIMULATE_SECONDS": "1"})
    metadata = FakeMetadata()
    metadata.give_notice(seconds=120)
    api.settings["metadata_poll_seconds"] = (
        0.5  # the second poll sees it: the first one is too early
    )
    notice, metadata.notice = metadata.notice, None
    with metadata.serving():
        endpoint = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.url}
        with running(api, tmp_path / "i", **endpoint) as agent:
            api.wait_for(lambda: "running" in api.phases)
            metadata.notice = notice
            assert agent.wait() == 0

    assert api.callbacks == [{"schedule": ""}, {"exit_code": 0}]


def test_a_notice_before_the_container_runs_keeps_it_from_running(tmp_path: Path) -> None:
    api = FakeApi(env_vars={"SIMULATE_SECONDS": "60"})
    metadata = FakeMetadata()
    metadata.give_notice(seconds=0)
    with metadata.serving():
        endpoint = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.url}
        with running(api, tmp_path / "i", **endpoint) as agent:
            assert agent.wait() == 0

    assert api.callbacks[0] == {"schedule": ""}
    assert api.callbacks[-1].get("stopped") is True


def test_a_metadata_service_that_is_not_there_costs_nothing(tmp_path: Path) -> None:
    api = FakeApi()
    endpoint = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:9"}
    with running(api, tmp_path / "i", **endpoint) as agent:
        assert agent.wait() == 0

    assert api.callbacks == [{"exit_code": 0}]


# -- an agent that is ended


def test_sigterm_stops_the_job_and_ends_the_agent_without_a_final_callback(tmp_path: Path) -> None:
    api = FakeApi(env_vars={"SIMULATE_SECONDS": "60"})
    with running(api, tmp_path / "i") as agent:
        api.wait_for(lambda: "running" in api.phases)
        child = os.pidfd_open(agent.child())
        agent.process.terminate()
        assert agent.wait() == 0
        assert wait_until_ended(child)

    assert api.of("callback") == []
    assert agent.reason == "no final callback: terminated"


def test_sigterm_ends_an_agent_whose_claim_hangs(tmp_path: Path) -> None:
    api = FakeApi()
    api.hang = threading.Event()
    with running(api, tmp_path / "i") as agent:
        api.wait_for(lambda: api.of("claim"))
        agent.process.terminate()
        assert agent.wait() == 0
        api.hang.set()

    assert agent.reason == "terminated"


def test_a_killed_agent_takes_its_simulated_container_with_it(tmp_path: Path) -> None:
    api = FakeApi(env_vars={"SIMULATE_SECONDS": "60"})
    with running(api, tmp_path / "i") as agent:
        api.wait_for(lambda: "running" in api.phases)
        child = os.pidfd_open(agent.child())
        os.killpg(agent.process.pid, signal.SIGKILL)
        assert wait_until_ended(child)


def test_a_second_agent_for_the_same_instance_is_refused(tmp_path: Path) -> None:
    api = FakeApi(env_vars={"SIMULATE_SECONDS": "60"})
    with running(api, tmp_path / "i") as agent:
        api.wait_for(lambda: "running" in api.phases)
        second = AgentProcess(api, agent.directory)

        assert second.wait() == 75
        assert len(api.of("claim")) == 1
        assert (agent.directory / "pid").read_text() == str(agent.process.pid)
        assert agent.process.poll() is None


def test_the_lock_is_held_by_the_agent_alone_and_free_when_it_has_ended(tmp_path: Path) -> None:
    api = FakeApi(env_vars={"SIMULATE_SECONDS": "60"})
    with running(api, tmp_path / "i") as agent:
        api.wait_for(lambda: "running" in api.phases)
        with (agent.directory / "alive.lock").open("rb") as lock:
            with pytest.raises(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.kill(agent.child(), signal.SIGSTOP)  # a child that lingers
            child = agent.child()
            agent.process.kill()
            agent.wait()
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.kill(child, signal.SIGKILL)


def test_the_maximum_lifetime_ends_job_and_agent(tmp_path: Path) -> None:
    api = FakeApi(env_vars={"SIMULATE_SECONDS": "60"})
    with running(api, tmp_path / "i", DOCKER_JOB_MAX_LIFETIME_SECONDS="1") as agent:
        api.wait_for(lambda: "running" in api.phases)
        child = os.pidfd_open(agent.child())
        assert agent.wait() == 0
        assert wait_until_ended(child)

    assert agent.reason == "maximum lifetime"


def test_the_maximum_lifetime_ends_an_agent_that_hangs(tmp_path: Path) -> None:
    api = FakeApi()
    api.hang = threading.Event()
    with running(api, tmp_path / "i", DOCKER_JOB_MAX_LIFETIME_SECONDS="0.5") as agent:
        assert agent.wait() == 0
        api.hang.set()

    assert agent.reason == "maximum lifetime"


def test_a_bad_configuration_ends_the_agent_and_is_named(tmp_path: Path) -> None:
    api = FakeApi()
    with running(api, tmp_path / "i", DOCKER_JOB_JOB_ID="seven") as agent:
        assert agent.wait() == 78

    assert agent.reason == "bad configuration: DOCKER_JOB_JOB_ID is not a number"


def test_a_job_that_asks_for_gpus_is_given_so_many_and_another_none(tmp_path: Path) -> None:
    for name, job, given in (("two", {"gpus": 2}, True), ("none", {}, False)):
        api = FakeApi(**job)
        with running(api, tmp_path / name) as agent:
            assert agent.wait() == 0
        (would_run,) = api.lines("stdout")
        assert ("--gpus 2" in would_run, "--gpus" in would_run) == (given, given)


def test_a_simulated_container_ends_at_its_own_stop_signal_and_shows_how_it_would_run(
    tmp_path: Path,
) -> None:
    env = {"SIMULATE_SECONDS": "60"}
    api = FakeApi(env_vars=env, user="1000", stop_signal="SIGWINCH", read_only=True)
    api.keeps = True
    with running(api, tmp_path / "i") as agent:
        api.wait_for(lambda: api.lines("stdout"))
        api.change(over=True)
        assert agent.wait() == 0

    (would_run,) = api.lines("stdout")
    assert "--user 1000 --stop-signal SIGWINCH --read-only --env" in would_run
    code = 128 + signal.SIGWINCH
    assert api.callbacks == [{"failed": "", "error_message": "stopped", "exit_code": code}]
