"""`docker-job events` over a restart of the API; dead letters; errors of the way to the API."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_deadletters import leave_dead
from tests.support.run.command_line import CommandLine
from tests.support.run.ports import free_port
from tests.support.run.state import ROOT
from tests.support.systems.embedded_system import EmbeddedSystem
from tests.support.waiting import until


@pytest.fixture(scope="module")
def running() -> Iterator[EmbeddedSystem]:
    """Run one system with the simulated runtime for all tests of this module."""
    system = EmbeddedSystem(
        RUNTIME="simulated", HEARTBEAT_SECONDS="1", LAUNCH_CALL_SECONDS="5", REAP_CALL_SECONDS="3"
    )
    system.start()
    yield system
    system.close()


@pytest.fixture
def command(running: EmbeddedSystem, tmp_path: Path) -> CommandLine:
    return CommandLine(running.address, tmp_path)


def changes(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_events_go_on_over_a_kill_of_the_api_without_a_lost_or_doubled_change(
    command: CommandLine, running: EmbeddedSystem
) -> None:
    arguments = ("events", "--json", "--filter", "label=team=data")
    with command.piped(*arguments) as piped:
        # It begins with what comes from now on: jobs are made until one is seen.
        until(lambda: running.schedule("+1d", labels={"team": "data"}) and piped.out)
        first = running.schedule(labels={"team": "data"}, env_vars={"SIMULATE_SECONDS": "4"})
        running.schedule(labels={"team": "other"})
        until(lambda: '"running"' in piped.out, what=piped.err)
        running.kill()
        piped.until("Trying again")
        running.start()
        running.follow(first)
        until(lambda: '"done"' in piped.out, what=f"{piped.out}{piped.err}")
        seen = changes(piped.out)
    mine = [each for each in seen if each["id"] == first]
    phases = [each["phase"] for each in mine]
    assert phases[0] in ("launching", "scheduled")
    assert [each for each in phases if each in ("running", "done")] == ["running", "done"]
    assert {each["labels"]["team"] for each in seen} == {"data"}  # type: ignore[index]
    positions = [each["position"] for each in seen]
    assert len(set(positions)) == len(positions)
    after = str(mine[0]["position"])
    with command.piped(*arguments, "--job", str(first), "--after", after) as again:
        until(lambda: '"done"' in again.out, what=again.err)
        assert changes(again.out) == mine[1:]


def test_events_on_a_terminal_are_lines_and_ctrl_c_ends_them(
    command: CommandLine, running: EmbeddedSystem
) -> None:
    with command.terminal("events", "-f") as terminal:
        until(lambda: running.schedule("+1d", name="seen") and "seen" in terminal.text)
        job = running.schedule(name="ends")
        until(lambda: f"{job}" in terminal.text and "✓ done" in terminal.text)
        assert "exited 0" in terminal.text
        terminal.press("\x03")
        assert terminal.wait() == 130


def test_dead_letters_are_listed_shown_redriven_and_dropped_after_a_question(
    command: CommandLine, running: EmbeddedSystem
) -> None:
    first = asyncio.run(leave_dead(running.admin_dsn()))
    second = asyncio.run(leave_dead(running.admin_dsn()))

    def listed() -> str:
        return command.run("deadletters", "ls", "-q").stdout

    until(lambda: first in listed() and second in listed())
    table = command.run("deadletters", "ls").stdout
    assert "JobCancelled  999  dead" in table
    assert "ValueError: once" in table
    [shown] = json.loads(command.run("deadletters", "show", first).stdout)
    assert (shown["event_id"], shown["service"]) == (first, "scheduler")
    unknown = command.run("deadletters", "show", "no-such-id")
    assert (unknown.returncode, unknown.stdout) == (125, "[]\n")

    refused = command.run("deadletters", "drop", second)
    assert refused.returncode == 2
    assert "-y" in refused.stderr
    with command.terminal("deadletters", "drop", second) as terminal:
        terminal.until("Drop it for good?")
        terminal.press("n\n")
        assert terminal.wait() == 1
    assert second in listed()
    assert "is asked to drop it" in command.run("deadletters", "drop", "-y", second).stdout
    assert "is asked to handle it" in command.run("deadletters", "redrive", first).stdout
    until(lambda: not listed())


def test_an_api_that_does_not_answer_is_two_lines(command: CommandLine) -> None:
    port = free_port()
    for arguments in (("ps",), ("events",), ("inspect", "1"), ("stats",)):
        done = command.run(*arguments, DOCKER_JOB_URL=f"http://127.0.0.1:{port}")
        assert (done.stdout or "[]\n", done.returncode) == ("[]\n", 125)
        assert done.stderr.splitlines() == [
            f"Cannot reach http://127.0.0.1:{port}: connection refused.",
            'Start it with "make run", or choose another with "docker-job login URL".',
        ]


# The last test: from then on the system wants a key.
def test_a_key_that_is_missing_or_too_small_is_two_lines(
    command: CommandLine, running: EmbeddedSystem
) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "embedded.run", "keys", "create", "--name", "me", "--scope", "read"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "DOCKER_JOB_DATA_DIR": str(running.data_dir / "data")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    [key] = made.stdout.splitlines()  # what is logged is on standard error
    assert "key.create" in made.stderr
    assert key.startswith("djk_")
    until(lambda: command.run("ps").returncode == 125, what="the key is needed")
    refused = command.run("ps")
    assert len(refused.stderr.splitlines()) == 2
    assert "DOCKER_JOB_KEY" in refused.stderr.splitlines()[1]
    assert command.run("ps", DOCKER_JOB_KEY=key).returncode == 0
    small = command.run("deadletters", "ls", DOCKER_JOB_KEY=key)
    assert small.returncode == 125
    assert "admin" in small.stderr.splitlines()[0]
    assert key not in refused.stderr + small.stderr
