"""Containers that end during an outage: one attempt each, and each result is kept.

The lengths are shortened with the settings that they are measured by. `make long` runs the same at
the default settings: 135 s after `kill -9`, 72 s after SIGTERM, 78 s of a frozen Postgres.
"""

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from embedded.postgres_host import processes_in
from tests.e2e.test_docker import image
from tests.e2e.test_main_job import wait_for_no_agents, wait_for_phase
from tests.support.systems.embedded_system import EmbeddedSystem

__all__ = ["image"]  # a fixture too

SHORTENED = {"HEARTBEAT_SECONDS": "0.5", "SILENCE_SECONDS": "4", "BOOT_SECONDS": "6"}
LONG = pytest.mark.long


@dataclass(frozen=True)
class Length:
    """Length of an outage, in seconds, and the settings that bound it."""

    kill: float
    stop: float
    freeze: float
    settings: dict[str, str]


SHORT_LENGTH = Length(kill=9, stop=5, freeze=6, settings=SHORTENED)
TRUE_LENGTH = Length(kill=135, stop=72, freeze=78, settings={})


@pytest.fixture(params=[SHORT_LENGTH, pytest.param(TRUE_LENGTH, marks=LONG)], ids=["short", "true"])
def length(request: pytest.FixtureRequest) -> Length:
    found: Length = request.param
    return found


@pytest.fixture(params=["simulated", pytest.param("docker", marks=pytest.mark.campaign)])
def runtime(request: pytest.FixtureRequest) -> str:
    if request.param == "docker":
        request.getfixturevalue("image")  # skips where no engine answers
    return str(request.param)


@pytest.fixture
def system(length: Length, runtime: str) -> Iterator[EmbeddedSystem]:
    system = EmbeddedSystem(RUNTIME=runtime, **length.settings)
    yield system
    system.close()


class Jobs:
    """Three running jobs: one succeeds during the outage, one fails, one continues after it."""

    def __init__(self, system: EmbeddedSystem, runtime: str, image: str, outage: float) -> None:
        self._system = system
        during, behind = outage / 2, outage + 4
        if runtime == "docker":
            commands = (
                f"sleep {during}; echo survived",
                f"sleep {during}; echo broken >&2; exit 3",
                f"sleep {behind}; echo went on",
            )
            self.ids = [
                system.schedule(docker_image=image, command=["sh", "-c", each]) for each in commands
            ]
        else:
            ends = ((during, "survived", 0), (during, "broken", 3), (behind, "went on", 0))
            self.ids = [
                system.schedule(
                    env_vars={
                        "SIMULATE_SECONDS": str(seconds),
                        "SIMULATE_OUTPUT": text,
                        "SIMULATE_EXIT_CODE": str(code),
                    }
                )
                for seconds, text, code in ends
            ]
        for job_id in self.ids:
            wait_for_phase(system, job_id, "running")

    def prove(self) -> None:
        """Check that each has one attempt, and the result and output of its container."""
        ends = [self._system.follow(job_id) for job_id in self.ids]
        assert [(job["status"], job["exit_code"]) for job in ends] == [
            ("DONE", 0),
            ("FAILED", 3),
            ("DONE", 0),
        ]
        assert [[each["cause"] for each in job["attempts"]] for job in ends] == [
            ["done"],
            ["failed"],
            ["done"],
        ]
        for job_id, text in zip(self.ids, ("survived", "broken", "went on"), strict=True):
            assert text in self._system.http.get(f"/jobs/{job_id}/logs").text
        wait_for_no_agents(self._system)


def pass_by(seconds: float) -> None:
    """Let the outage pass: this much time must really elapse."""
    threading.Event().wait(seconds)


@pytest.mark.timeout(400)
def test_killed_and_away_for_longer_than_the_silence_it_loses_no_result(
    system: EmbeddedSystem, length: Length, runtime: str, request: pytest.FixtureRequest
) -> None:
    system.start()
    jobs = Jobs(system, runtime, _image(runtime, request), length.kill)
    system.kill()
    pass_by(length.kill)
    system.start()
    jobs.prove()


@pytest.mark.timeout(400)
def test_stopped_and_away_for_longer_than_the_silence_it_loses_no_result(
    system: EmbeddedSystem, length: Length, runtime: str, request: pytest.FixtureRequest
) -> None:
    system.start()
    jobs = Jobs(system, runtime, _image(runtime, request), length.stop)
    assert system.process is not None
    system.process.send_signal(signal.SIGTERM)
    assert system._wait(30) == 0
    pass_by(length.stop)
    system.start()
    jobs.prove()


@pytest.mark.timeout(400)
def test_with_postgres_frozen_for_longer_than_the_silence_it_loses_no_result(
    system: EmbeddedSystem, length: Length, runtime: str, request: pytest.FixtureRequest
) -> None:
    system.start()
    jobs = Jobs(system, runtime, _image(runtime, request), length.freeze)
    server = list(processes_in(system.data_dir / "data" / "postgres" / "pgdata"))
    assert server
    _signal_all(server, signal.SIGSTOP)
    try:
        pass_by(length.freeze)
    finally:
        _signal_all(server, signal.SIGCONT)
    jobs.prove()


@pytest.mark.parametrize("length", [SHORT_LENGTH], ids=["short"])
@pytest.mark.parametrize("runtime", ["simulated"])
def test_an_agent_that_died_in_the_outage_is_found_and_its_job_runs_again(
    system: EmbeddedSystem, length: Length, runtime: str
) -> None:
    system.start()
    job_id = system.schedule(env_vars={"SIMULATE_SECONDS": "2"})
    wait_for_phase(system, job_id, "running")
    system.kill()
    for pid in system.agents():
        os.kill(pid, signal.SIGKILL)
    pass_by(length.stop)
    system.start()
    job = system.follow(job_id)
    assert job["status"] == "DONE"
    assert [each["cause"] for each in job["attempts"]] == ["lost", "done"]
    wait_for_no_agents(system)


def _image(runtime: str, request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("image")) if runtime == "docker" else "alpine"


def _signal_all(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        if Path(f"/proc/{pid}").exists():
            os.kill(pid, number)
