"""What a container prints, as the agent reports it: with real containers, where there are any."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from agent.docker_job_agent.children import Child
from agent.docker_job_agent.redraw import MAX_PIECE_BYTES, Piece
from tests.integration.test_agent import (
    COUNT,
    PATIENCE,
    AgentProcess,
    FakeApi,
    FakeMetadata,
    numbers,
    report_all,
)
from tests.integration.test_agent_docker import (
    PYTHON_IMAGE,
    SHELL_IMAGE,
    running_docker,
)
from tests.integration.test_agent_docker import _engine as _has_engine
from tests.support.waiting import until

engine = pytest.mark.usefixtures("_has_engine")
__all__ = ["_has_engine"]


def left_out(api: FakeApi) -> tuple[int, int]:
    """Return the lines and bytes that the agent has left out."""
    batches = {
        call.body["logs"]["seq"]: call.body["logs"]
        for call in api.of("report")
        if call.answered and call.body["logs"]
    }
    omissions = [batch["left_out"] for batch in batches.values() if "left_out" in batch]
    return sum(each["lines"] for each in omissions), sum(each["bytes"] for each in omissions)


def shell(script: str, timeout_seconds: float | None = None) -> FakeApi:
    """Return an API whose job runs a script; a container gets enough time to stop."""
    command = ["sh", "-c", script]
    api = FakeApi(docker_image=SHELL_IMAGE, command=command, timeout_seconds=timeout_seconds)
    api.settings["stop_grace_seconds"] = 15
    return api


def wait_until_removed(agent: AgentProcess) -> None:
    """Wait until the container has run to its end."""
    until(lambda: "container removed" in agent.log, PATIENCE)


# -- many lines


@engine
def test_all_150_000_lines_arrive_though_the_api_is_away_until_after_the_container_s_end(
    tmp_path: Path,
) -> None:
    api = shell("seq 1 150000")
    with running_docker(api, tmp_path / "i") as agent:
        api.wait_for(lambda: len(api.lines("stdout")) >= 1000)
        api.change(away=True)
        wait_until_removed(agent)
        api.change(away=False)
        assert agent.wait() == 0

    assert api.lines("stdout") == [str(number) for number in range(1, 150_001)]
    assert api.lines("docker-job") == []
    assert api.callbacks == [{"exit_code": 0}]


@engine
@pytest.mark.parametrize("away", [False, True])
def test_the_last_line_after_2_mb_arrives(tmp_path: Path, *, away: bool) -> None:
    api = shell("head -c 2000000 /dev/zero | tr '\\0' x | fold -w 99; echo; echo RESULT=42")
    with running_docker(api, tmp_path / "i") as agent:
        if away:
            api.wait_for(lambda: "running" in api.phases)
            api.change(away=True)
            wait_until_removed(agent)
            api.change(away=False)
        assert agent.wait() == 0

    lines = api.lines("stdout")
    lines_left_out, bytes_left_out = left_out(api)
    assert lines[0] == "x" * 99
    assert lines[-1] == "RESULT=42"
    assert len(lines) + lines_left_out == 20_204
    assert sum(len(line) + 1 for line in lines) + bytes_left_out == 2_000_000 + 20_203 + 10


def test_while_the_api_is_away_who_prints_does_not_wait_and_nothing_is_lost(
    tmp_path: Path,
) -> None:
    api = FakeApi()
    api.first_answers["report"] = [503] * 12
    line = "x" * 1000
    script = f"for n in range(20_000): print({line!r})"
    report_all(api, script, 10**8, tmp_path)

    assert api.lines("stdout") == [line] * 20_000
    assert api.lines("docker-job") == []
    assert list(tmp_path.iterdir()) == []


def test_of_what_an_api_that_is_away_misses_beginning_and_end_are_kept(tmp_path: Path) -> None:
    api = FakeApi()
    api.away = True
    back = threading.Timer(2.0, lambda: api.change(away=False))
    back.start()
    report_all(api, COUNT.format(300_000), 200_000, tmp_path)
    back.join()

    sent = api.lines("stdout")
    lines, size = left_out(api)
    printed = numbers(300_000)
    assert sent[:18_000] == printed[:18_000]
    assert sent[-25_000:] == printed[-25_000:]
    assert len(sent) + lines == 300_000
    assert sum(len(text) + 1 for text in [*sent]) + size == sum(len(text) + 1 for text in printed)
    assert api.lines("docker-job") == []


# -- lines without an end, long lines, and what is no text


@engine
def test_a_prompt_shows_while_the_container_waits(tmp_path: Path) -> None:
    api = shell("printf 'Password: '; sleep 60")
    with running_docker(api, tmp_path / "i") as agent:
        api.wait_for(lambda: "running" in api.phases)
        started = time.monotonic()
        api.wait_for(lambda: api.lines("stdout"))
        assert time.monotonic() - started < 3
        agent.process.terminate()
        assert agent.wait() == 0

    part, *_ = api.parts("stdout")
    assert (part["text"], part["continues"]) == ("Password: ", "unfinished")


@engine
def test_a_progress_bar_shows_live_and_ends_as_its_last_state(tmp_path: Path) -> None:
    script = (
        "import sys, time\n"
        "for percent in range(0, 101):\n"
        "    print(f'\\r{percent}%', end='', flush=True)\n"
        "    time.sleep(0.03)\n"
        "print('\\nDone')\n"
        "for percent in range(0, 100_000):\n"
        "    print(f'{percent}%', end='\\r', file=sys.stderr)\n"
        "sys.exit('no such table')\n"
    )
    api = FakeApi(docker_image=PYTHON_IMAGE, command=["python", "-c", script])
    with running_docker(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    assert api.whole_lines("stdout") == ["100%", "Done"]
    assert 2 <= len(api.parts("stdout")) <= 6
    assert api.whole_lines("stderr") == ["no such table"]
    [callback] = api.callbacks
    assert callback["error_message"] == "no such table\n100%\nDone"


@engine
def test_a_line_of_20_mb_arrives_in_pieces(tmp_path: Path) -> None:
    api = shell("head -c 20000000 /dev/zero | tr '\\0' x; echo; echo END; exit 3")
    with running_docker(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    *parts, last = api.parts("stdout")
    pieces, size = left_out(api)
    assert last["text"] == "END"
    # On a busy machine the line pauses, and is shown as far as it goes.
    assert {part.get("continues") for part in parts[:-1]} in ({"split"}, {"split", "unfinished"})
    assert "continues" not in parts[-1]
    assert max(len(part["text"]) for part in parts) == MAX_PIECE_BYTES
    printed = sum(len(part["text"]) for part in parts) + size - pieces
    assert printed == 20_000_000
    assert api.callbacks[0]["error_message"].endswith("x\nEND")


@engine
def test_binary_output_arrives_with_replacement_characters(tmp_path: Path) -> None:
    api = shell("head -c 3000000 /dev/urandom; head -c 100000 /dev/zero; echo; echo END")
    with running_docker(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    lines = api.lines("stdout")
    assert lines[-1] == "END"
    assert "\ufffd" * 100 in lines[-2]
    assert not any("\0" in line for line in lines)
    assert api.callbacks == [{"exit_code": 0}]


# -- a container that is stopped

CLEAN_UP = "for i in $(seq 1 200); do echo bye $i; sleep 0.01; done; exit 7"
TRAPS = f"trap '{CLEAN_UP}' TERM; echo ready; while :; do sleep 0.1; done"
GOOD_BYE = ["ready", *(f"bye {number}" for number in range(1, 201))]


@engine
def test_what_a_cancelled_container_prints_in_its_grace_is_kept_with_its_exit_code(
    tmp_path: Path,
) -> None:
    api = shell(TRAPS)
    api.keeps = True
    with running_docker(api, tmp_path / "i") as agent:
        api.wait_for(lambda: "ready" in api.lines("stdout"))
        api.change(over=True)
        assert agent.wait() == 0

    assert api.lines("stdout") == GOOD_BYE
    assert api.callbacks == [{"failed": "", "error_message": "stopped", "exit_code": 7}]


@engine
@pytest.mark.parametrize("away", [False, True])
def test_what_a_container_prints_after_its_time_limit_is_kept_with_its_exit_code(
    tmp_path: Path, *, away: bool
) -> None:
    api = shell(TRAPS, timeout_seconds=1)
    with running_docker(api, tmp_path / "i") as agent:
        api.wait_for(lambda: "stopping" in api.phases)
        if away:
            api.change(away=True)
            wait_until_removed(agent)
            api.change(away=False)
        assert agent.wait() == 0

    assert api.lines("stdout") == GOOD_BYE
    message = "timed out after 1 seconds"
    expected = {"failed": "", "error_message": message, "timed_out": True, "exit_code": 7}
    assert api.callbacks == [expected]


@engine
def test_what_an_interrupted_container_prints_in_its_grace_is_kept_with_its_exit_code(
    tmp_path: Path,
) -> None:
    api = shell(TRAPS)
    metadata = FakeMetadata()
    with metadata.serving():
        endpoint = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.url}
        with running_docker(api, tmp_path / "i", **endpoint) as agent:
            api.wait_for(lambda: "ready" in api.lines("stdout"))
            metadata.give_notice(seconds=0)
            assert agent.wait() == 0

    assert api.lines("stdout") == GOOD_BYE
    stopped = {"schedule": "", "stopped": True, "exit_code": 7}
    assert api.callbacks == [{"schedule": ""}, stopped]


@engine
def test_a_container_that_prints_much_in_its_grace_does_not_wait_for_a_slow_api(
    tmp_path: Path,
) -> None:
    # 8 MB: more than the agent and docker hold.
    clean_up = f"seq --format {'x' * 73}%06.0f 1 100000"
    api = shell(f"trap '{clean_up}; exit 7' TERM; echo ready; while :; do sleep 0.1; done")
    api.settings["log_limit_bytes"] = 10 * 1024 * 1024
    api.keeps = True
    slow = threading.Event()
    with running_docker(api, tmp_path / "i") as agent:
        api.wait_for(lambda: "ready" in api.lines("stdout"))
        api.change(over=True)
        api.wait_for(lambda: len(api.lines("stdout")) > 1)
        api.change(hang=slow)
        until(lambda: "container removed" in agent.log, PATIENCE)
        slow.set()
        assert agent.wait() == 0

    assert api.callbacks == [{"failed": "", "error_message": "stopped", "exit_code": 7}]
    assert api.lines("stdout")[-1] == f"{'x' * 73}100000", agent.log


@engine
def test_a_container_that_ended_in_time_has_not_timed_out_though_its_output_is_taken_slowly(
    tmp_path: Path,
) -> None:
    # 2.6 MB: more than the agent reads on, less than it and docker hold.
    api = shell(f"yes {'x' * 99} | head -n 26000", timeout_seconds=3)
    api.settings["log_limit_bytes"] = 10 * 1024 * 1024
    slow = threading.Event()
    with running_docker(api, tmp_path / "i") as agent:
        api.wait_for(lambda: "running" in api.phases)
        api.change(hang=slow)
        until(lambda: "container removed" in agent.log, PATIENCE)
        slow.set()
        assert agent.wait() == 0

    assert api.callbacks == [{"exit_code": 0}]
    assert api.lines("stdout") == ["x" * 99] * 26_000


# -- the end of a child


def test_an_exit_is_reported_when_all_output_is_read_though_another_process_prints_on() -> None:
    script = "for i in 1 2 3 4 5 6 7; do sleep 1; echo late $i; done & exit 3"
    printed: list[Any] = []
    ended = threading.Event()

    def keep(_stream: str, piece: Piece) -> None:
        printed.append(piece.text)

    child = Child(["sh", "-c", script], {}, keep, ended.set)
    assert ended.wait(PATIENCE)

    assert printed == [f"late {number}" for number in range(1, 8)]
    assert child.exit_code == 3


def test_a_child_without_output_costs_no_time_while_its_line_is_unfinished() -> None:
    script = "import time; print('waits', end='', flush=True); time.sleep(3)"
    ended = threading.Event()
    used = time.process_time()
    Child([sys.executable, "-c", script], {}, lambda _stream, _piece: None, ended.set)
    assert ended.wait(PATIENCE)

    assert time.process_time() - used < 0.5
