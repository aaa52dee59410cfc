"""`docker-job run` with real containers: every byte where it was printed, and how far a pull is."""

import platform
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_docker import docker
from tests.support.run.command_line import CommandLine
from tests.support.servers.slow_registry import ARCHITECTURES, PRINTED, SlowRegistry
from tests.support.systems.embedded_system import EmbeddedSystem

IMAGE = "debian:trixie-slim"


@pytest.fixture(scope="module")
def running() -> Iterator[EmbeddedSystem]:
    """Run one system with real containers for all tests of this module."""
    if not docker("image", "inspect", IMAGE):
        pytest.skip(f"needs a Docker engine with {IMAGE}")
    system = EmbeddedSystem(RUNTIME="docker", HEARTBEAT_SECONDS="1", LOCAL_IMAGES="yes")
    system.start()
    yield system
    system.close()


@pytest.fixture
def command(running: EmbeddedSystem, tmp_path: Path) -> CommandLine:
    return CommandLine(running.address, tmp_path)


@pytest.fixture
def registry() -> Iterator[SlowRegistry]:
    if platform.machine() not in ARCHITECTURES:
        pytest.skip("the image of the tests has no program for this machine")
    made = SlowRegistry()
    with made.serving():
        yield made
    docker("image", "rm", "--force", made.image)


def test_each_byte_is_printed_where_the_container_printed_it(command: CommandLine) -> None:
    script = (
        "echo out; echo err >&2; printf 'ä\\tb  c \\n\\n'; "
        "head -c 40000 /dev/zero | tr '\\0' x; echo; printf unfinished; exit 3"
    )
    done = command.run("run", "-q", IMAGE, "sh", "-c", script)
    assert done.stdout == f"out\nä\tb  c \n\n{'x' * 40_000}\nunfinished\n"
    assert done.stderr == "err\n"
    assert done.returncode == 3


def test_a_prompt_is_shown_before_its_line_ends_and_ctrl_c_asks_below_it(
    command: CommandLine,
) -> None:
    script = "printf 'Password: '; sleep 600"
    with command.terminal("run", IMAGE, "sh", "-c", script) as terminal:
        terminal.until("Password:")
        terminal.press("\x03")
        terminal.until("[d/c]")
        assert any(each.startswith("Password:") for each in terminal.lines)
        terminal.press("c")
        assert terminal.wait() == 130


def test_a_program_that_is_killed_has_the_exit_code_of_its_signal(command: CommandLine) -> None:
    done = command.run("run", IMAGE, "sh", "-c", "kill -9 $$")
    assert done.returncode == 128 + signal.SIGKILL
    assert "exited 137" in done.stderr.splitlines()[-1]


def test_a_pull_shows_how_far_it_is(command: CommandLine, registry: SlowRegistry) -> None:
    registry.pause_seconds = 0.04  # four seconds in all
    with command.terminal("run", registry.image) as terminal:
        assert terminal.wait() == 0
    assert PRINTED in terminal.lines
    seen = set(re.findall(rb"([0-9.]+) of 3.0 MB", terminal.bytes))
    assert len(seen) >= 3
    [line] = [each for each in terminal.lines if each.startswith(" ✓ pulling")]
    assert f"{registry.image}  3.0 of 3.0 MB" in line
    assert re.search(r" [3-9]\.\d s$", line)


def test_an_image_that_is_nowhere_fails_with_125_and_says_why(
    command: CommandLine, registry: SlowRegistry
) -> None:
    registry.error = (404, "MANIFEST_UNKNOWN")
    with command.piped("run", registry.image) as piped:
        piped.until(" ✕ pull failed ")
        piped.until("attempt 2 follows")
        assert piped.wait(120) == 125
        assert piped.out == ""
