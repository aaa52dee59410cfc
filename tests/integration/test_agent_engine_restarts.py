"""An engine that is restarted while a job runs: it ends the container, and not the job."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.docker_job_agent import engine_events
from agent.docker_job_agent.engine_api import EngineAnswer
from agent.docker_job_agent.engine_pull import EnginePull
from agent.docker_job_agent.errors import EngineError, EngineLostError
from tests.integration.test_agent import FakeApi, running
from tests.integration.test_agent_docker import SHELL_IMAGE
from tests.integration.test_agent_shared_engine import job_networks
from tests.support.servers.own_engine import OwnEngine, own_engine
from tests.support.waiting import until

# It ends as if all was done.
POLITE = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done"
STATE = {"StartedAt": "2026-11-30T15:00:00.5Z", "FinishedAt": "2026-11-30T15:00:09.5Z"}


@pytest.fixture(scope="module")
def engine() -> Iterator[OwnEngine]:
    with own_engine(SHELL_IMAGE) as engine:
        yield engine


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_container_that_a_restarted_engine_ended_is_neither_done_nor_failed(
    engine: OwnEngine, tmp_path: Path, number: int
) -> None:
    api = FakeApi(docker_image=SHELL_IMAGE, command=["sh", "-c", POLITE])
    env = {"DOCKER_JOB_RUNTIME": "docker", "DOCKER_HOST": engine.host}
    with running(api, tmp_path / "i", **env) as agent:
        api.wait_for(lambda: "ready" in api.lines("stdout"))
        engine.end(number)
        engine.start()
        assert agent.wait() == 0

    why = "the container engine was restarted, which ended the container"
    assert api.callbacks == [{"schedule": "", "stopped": True, "error_message": why}]
    assert api.lines("stderr") == []  # what docker's client says of it is not the container's
    assert "the container engine was restarted" in api.lines("docker-job")[-1]
    assert engine.docker("ps", "--all", "--quiet").stdout == b""


def test_a_container_that_somebody_stops_counts_by_its_exit_code(
    engine: OwnEngine, tmp_path: Path
) -> None:
    api = FakeApi(docker_image=SHELL_IMAGE, command=["sh", "-c", POLITE])
    env = {"DOCKER_JOB_RUNTIME": "docker", "DOCKER_HOST": engine.host}
    with running(api, tmp_path / "i", **env) as agent:
        api.wait_for(lambda: "ready" in api.lines("stdout"))
        engine.docker("stop", f"docker-job-{agent.instance_id}")
        assert agent.wait() == 0

    assert api.callbacks == [{"exit_code": 0}]


def test_a_stream_that_breaks_off_is_not_taken_for_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "docker"
    head = r"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    objects = r'14\r\n{"status":"Pulling"}\r\n2\r\n\n\n\r\n'
    takes = """while read -r line && [ ${#line} -gt 1 ]; do :; done"""
    program.write_text(f"#!/bin/sh\n{takes}\nprintf '{head}{objects}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    pull = EnginePull("team/app:1", {}, lambda: None)
    until(lambda: pull.ended)
    pull.close()

    assert pull.error.startswith("the container engine: ")


@pytest.fixture
def surviving(engine: OwnEngine) -> Iterator[OwnEngine]:
    """Give an engine whose containers outlive it."""
    engine.end()
    engine.settings = {"live-restore": True}
    engine.start()
    yield engine
    engine.settings = {}
    engine.end()
    engine.start()


def test_a_container_that_outlives_its_engine_ends_by_itself(
    surviving: OwnEngine, tmp_path: Path
) -> None:
    script = "printf 'and? ' >&2; echo ready; read line < /tmp/pipe; exit 3"
    command = ["sh", "-c", f"mkfifo /tmp/pipe; {script}"]
    api = FakeApi(docker_image=SHELL_IMAGE, command=command)
    env = {"DOCKER_JOB_RUNTIME": "docker", "DOCKER_HOST": surviving.host}
    with running(api, tmp_path / "i", **env) as agent:
        api.wait_for(lambda: "ready" in api.lines("stdout"))
        surviving.end(signal.SIGKILL)
        surviving.start()
        api.wait_for(lambda: any("cut off" in each for each in api.lines("docker-job")))
        name = f"docker-job-{agent.instance_id}"
        surviving.docker("exec", name, "sh", "-c", "echo go > /tmp/pipe")
        assert agent.wait() == 0

    [callback] = api.callbacks
    assert (callback["exit_code"], callback["error_message"]) == (3, "and?")
    assert api.whole_lines("stderr") == ["and? "]


def test_an_engine_that_is_away_before_the_container_exists_costs_no_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/engine.sock")
    [network] = job_networks(1)

    with pytest.raises(EngineLostError, match="the job's network was not created: "):
        network.create({})


class Remembering:
    """An engine that remembers events."""

    def __init__(self, events: list[Any], info: object) -> None:
        self._events = events
        self._info = info
        self.path = ""

    def stream(self, _method: str, path: str, **_kwargs: object) -> Iterator[Any]:
        self.path = path
        yield from self._events

    def request(self, *_args: object, **_kwargs: object) -> EngineAnswer:
        return EngineAnswer(200, self._info)

    def close(self) -> None:
        pass


def event(action: str, name: str = "mine") -> dict[str, Any]:
    return {"Type": "container", "Action": action, "Actor": {"Attributes": {"name": name}}}


NOW = {"SystemTime": "2026-11-30T15:00:12.5Z"}


@pytest.mark.parametrize(
    ("events", "info", "restarted"),
    [
        ([], NOW, True),
        ([event("kill"), event("die"), event("start", "another")], NOW, True),
        ([{"Type": "network", "Action": "destroy"}], NOW, True),
        ([event("start"), event("kill"), event("die")], NOW, False),
        ([event("create", "another")] * 256, NOW, False),  # it may have forgotten the start
        ([], NOW | {"LiveRestoreEnabled": True}, False),  # the container outlives the engine
        ([], {}, False),
        ([], None, False),
        ([EngineAnswer(500, None)], NOW, False),
    ],
)
def test_an_engine_that_has_forgotten_the_start_is_another_one(
    monkeypatch: pytest.MonkeyPatch,
    events: list[Any],
    info: object,
    restarted: bool,  # noqa: FBT001
) -> None:
    monkeypatch.setattr(engine_events, "EngineApi", lambda: Remembering(events, info))

    assert engine_events.was_restarted("mine") is restarted


def test_an_engine_is_asked_for_all_that_it_remembers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Covers an engine that serves others: of a part one cannot say whether it is complete."""
    engine = Remembering([event("start")], NOW)
    monkeypatch.setattr(engine_events, "EngineApi", lambda: engine)

    assert not engine_events.was_restarted("mine")
    assert engine.path == "/events?since=1&until=1796050813"


@pytest.mark.parametrize("started", ["2026-11-30T15:00:00.123456789Z", "2026-11-30T16:00:00+01:00"])
def test_an_engine_is_asked_for_kills_while_the_container_ran(
    monkeypatch: pytest.MonkeyPatch, started: str
) -> None:
    engine = Remembering([event("oom")], NOW)
    monkeypatch.setattr(engine_events, "EngineApi", lambda: engine)

    assert engine_events.had_oom("mine", {**STATE, "StartedAt": started})
    assert engine.path.startswith("/events?since=1796050800&until=1796050811&filters=")


def test_an_engine_that_does_not_answer_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> Remembering:
        raise EngineError("away")

    monkeypatch.setattr(engine_events, "EngineApi", away)

    assert not engine_events.was_restarted("mine")
    assert not engine_events.had_oom("mine", STATE)
