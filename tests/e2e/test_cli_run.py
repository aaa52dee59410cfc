"""`docker-job run` as its users see it: on a terminal, in a pipe, interrupted, disconnected."""

import json
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.run.command_line import CommandLine, Terminal
from tests.support.servers.metadata_service import MetadataService
from tests.support.systems.embedded_system import ROOT, EmbeddedSystem
from tests.support.waiting import until

COLUMNS = re.compile(r" [✓●] (scheduled|launching|booting|pulling|running)\b")


@pytest.fixture(scope="module")
def shared_metadata() -> Iterator[MetadataService]:
    service = MetadataService()
    yield service
    service.close()


@pytest.fixture(scope="module")
def running(shared_metadata: MetadataService) -> Iterator[EmbeddedSystem]:
    """Run one system with the simulated runtime for all tests of this module."""
    system = EmbeddedSystem(
        RUNTIME="simulated",
        HEARTBEAT_SECONDS="1",
        METADATA_POLL_SECONDS="0.2",
        INTERRUPTION_MARGIN_SECONDS="119",
        RETRY_FIRST_SECONDS="0.5",
        SECRETS_KEY="0f" * 32,
    )
    system.start(AWS_EC2_METADATA_SERVICE_ENDPOINT=shared_metadata.url)
    yield system
    system.close()


@pytest.fixture
def command(running: EmbeddedSystem, tmp_path: Path) -> CommandLine:
    return CommandLine(running.address, tmp_path)


def simulated(**variables: object) -> list[str]:
    """Return the options that make the simulated runtime do this."""
    return [f"--env=SIMULATE_{name.upper()}={value}" for name, value in variables.items()]


def printed(output: str) -> list[str]:
    """Return the lines of a container, without that of the simulated runtime."""
    return [each for each in output.splitlines() if not each.startswith("simulated, ")]


def phases_of(lines: list[str]) -> list[str]:
    """Return the phases that have a line; a pull that takes no time may have none."""
    found = [match[1] for each in lines if (match := COLUMNS.match(each))]
    return [each for each in found if each != "pulling"]


def the_job(terminal: Terminal) -> int:
    """Return the id of the job that a terminal follows, once that is seen."""
    terminal.until("job ")
    found = re.search(r"job (\d+) ·", terminal.text)
    assert found
    return int(found[1])


def test_a_pipe_gets_the_containers_output_alone_and_the_command_its_exit_code(
    command: CommandLine,
) -> None:
    job = simulated(output="42", error="oh", seconds=1)
    done = command.run("run", "-l", "team=data", *job, "alpine")
    assert printed(done.stdout) == ["42"]
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert re.fullmatch(r"job \d+ · alpine · team=data", lines[0])
    assert phases_of(lines) == ["scheduled", "launching", "booting", "running"]
    assert "oh" in lines
    assert lines[-1].startswith("exited 0 · ")
    assert "\x1b" not in done.stderr
    assert "\r" not in done.stderr


def test_a_container_that_fails_is_a_command_that_fails_with_its_code(command: CommandLine) -> None:
    done = command.run("run", "-q", *simulated(exit_code=3, error="no such table"), "alpine")
    assert (done.returncode, printed(done.stdout)) == (3, [])
    assert "no such table" in done.stderr


def test_quiet_leaves_the_containers_output_and_nothing_else(command: CommandLine) -> None:
    done = command.run("run", "--quiet", *simulated(output="42"), "alpine")
    assert (done.returncode, printed(done.stdout), done.stderr) == (0, ["42"], "")


def test_a_time_limit_that_passed_exits_with_124(command: CommandLine) -> None:
    done = command.run("run", "--timeout", "1s", *simulated(seconds=60), "alpine")
    assert done.returncode == 124
    assert done.stderr.splitlines()[-1].startswith("timed out after 1s · ")


def test_a_terminal_shows_a_line_for_each_phase_then_the_output_then_the_end(
    command: CommandLine,
) -> None:
    with command.terminal("run", *simulated(output="42", seconds=1), "alpine") as terminal:
        assert terminal.wait() == 0
    lines = [each for each in terminal.lines if each]
    assert re.fullmatch(r"job \d+ · alpine", lines[0])
    assert phases_of(lines) == ["scheduled", "launching", "booting", "running"]
    assert re.fullmatch(r" ✓ scheduled   now {45}0\.\d s", lines[1])
    running = next(at for at, each in enumerate(lines) if each.startswith(" ● running"))
    assert re.fullmatch(r" ● running     00:0\d", lines[running])
    assert lines.index("42") > running
    assert re.fullmatch(r"exited 0 · \d.* \(ran .*\) · .*", lines[-1])
    assert "instance terminated" in lines[-1]


def test_no_colour_is_written_where_it_is_not_wanted(command: CommandLine) -> None:
    with command.terminal("run", *simulated(output="42", seconds=1), "alpine") as coloured:
        assert coloured.wait() == 0
    assert b"\x1b[32m" in coloured.bytes
    with command.terminal("run", *simulated(output="42"), "alpine", NO_COLOR="1") as plain:
        assert plain.wait() == 0
    assert re.search(rb"\x1b\[\d*m", plain.bytes) is None
    with command.terminal("run", *simulated(output="42"), "alpine", TERM="dumb") as dumb:
        assert dumb.wait() == 0
    assert b"\x1b" not in dumb.bytes
    assert "42" in dumb.lines


def test_detach_prints_the_id_alone(command: CommandLine, running: EmbeddedSystem) -> None:
    done = command.run("run", "-d", "--name", "first", *simulated(), "alpine", "echo", "--flag")
    assert done.stderr == ""
    job = running.job(int(done.stdout))
    assert (job["name"], job["command"]) == ("first", ["echo", "--flag"])
    shown = command.run("run", "--detach", "--json", *simulated(), "alpine")
    assert json.loads(shown.stdout)["docker_image"] == "alpine"


def test_a_dry_run_shows_where_it_would_run_and_schedules_nothing(
    command: CommandLine, running: EmbeddedSystem
) -> None:
    before = len(running.jobs())
    plan = ("run", "--dry-run", "--expected", "10m", "alpine")
    until(lambda: "process" in command.run(*plan).stdout, what="the offers are published")
    shown = command.run(*plan)
    assert shown.stdout.startswith("Nothing is scheduled: a plan.")
    assert shown.stdout.splitlines()[-1].split()[:4] == ["1", "process", "local", "Spot"]
    document = json.loads(command.run("run", "--json", *plan[1:]).stdout)
    assert document["expected_seconds"] == 600
    assert len(running.jobs()) == before


def test_the_options_reach_the_job(command: CommandLine, running: EmbeddedSystem) -> None:
    done = command.run(
        "run", "-d", "--at", "+3d", "-m", "8g", "--cpus", "1.5", "--disk", "50g", "--retries", "2",
        "--spot-wait", "10m", "--timeout", "2h", "-u", "nobody", "-w", "/data", "--init",
        "--secret", "TOKEN=-", "-e", "HERE", "alpine",
        stdin="hunter2\n", HERE="yes",
    )  # fmt: skip
    assert done.stderr == "--cpus 1.5 is rounded up to 2: instances have whole CPUs.\n"
    job = running.job(int(done.stdout))
    assert job["resources"] == {"memory_mib": 8192, "vcpus": 2, "disk_gib": 50}
    assert (job["capacity"], job["spot_wait_seconds"]) == ("spot_then_on_demand", 600)
    assert (job["timeout_seconds"], job["retries"], job["user"]) == (7200, 2, "nobody")
    assert (job["env_vars"], job["secret_env"]) == ({"HERE": "yes"}, ["TOKEN"])
    assert command.run("stop", done.stdout.strip()).returncode == 0


def test_what_the_api_refuses_is_a_line_and_exits_with_125(command: CommandLine) -> None:
    done = command.run("run", "--at", "whenever", "alpine")
    assert done.returncode == 125
    assert done.stdout == ""
    assert done.stderr.startswith("scheduled_for ")
    usage = command.run("run", "-m", "512", "alpine")
    assert usage.returncode == 2
    assert "did you mean 512m?" in usage.stderr


def test_an_api_that_is_away_is_two_lines_what_and_what_to_do(
    command: CommandLine, tmp_path: Path
) -> None:
    away = CommandLine("http://127.0.0.1:9", tmp_path)
    done = away.run("run", "alpine")
    assert done.returncode == 125
    what, hint = done.stderr.splitlines()
    assert what == "Cannot reach http://127.0.0.1:9: connection refused."
    assert 'Start it with "make run"' in hint


def test_a_job_of_later_says_so_and_is_followed(
    command: CommandLine, running: EmbeddedSystem
) -> None:
    with command.piped("run", "--at", "+1d", "alpine") as piped:
        piped.until("○ scheduled")
        piped.signal(signal.SIGINT)
        assert piped.wait() == 130
        assert ", in 1d" in piped.err or ", in 23h59m" in piped.err
        assert "Detached: job" in piped.err
        found = re.search(r"docker-job stop (\d+)", piped.err)
    assert found
    assert running.job(int(found[1]))["status"] == "SCHEDULED"
    assert command.run("stop", found[1]).stdout == f"{found[1]}\n"


def test_ctrl_c_asks_and_d_detaches_from_the_job_which_goes_on(
    command: CommandLine, running: EmbeddedSystem
) -> None:
    with command.terminal("run", *simulated(seconds=600), "alpine") as terminal:
        terminal.until("● running")
        terminal.press("\x03")
        terminal.until("detach or cancel? [d/c]")
        terminal.press("d")
        assert terminal.wait() == 130
    job_id = the_job(terminal)
    assert f"docker-job logs -f {job_id}" in terminal.text
    assert running.job(job_id)["status"] == "RUNNING"
    command.run("stop", str(job_id))


def test_a_second_ctrl_c_detaches(command: CommandLine, running: EmbeddedSystem) -> None:
    with command.terminal("run", *simulated(seconds=600), "alpine") as terminal:
        terminal.until("● running")
        terminal.press("\x03")
        terminal.until("[d/c]")
        terminal.press("\x03")
        assert terminal.wait() == 130
    job_id = the_job(terminal)
    assert running.job(job_id)["status"] == "RUNNING"
    command.run("stop", str(job_id))


def test_ctrl_c_and_c_cancels_the_job_and_waits_for_its_end(
    command: CommandLine, running: EmbeddedSystem
) -> None:
    with command.terminal("run", *simulated(seconds=600), "alpine") as terminal:
        terminal.until("● running")
        terminal.press("\x03")
        terminal.until("[d/c]")
        terminal.press("c")
        assert terminal.wait() == 130
    job_id = the_job(terminal)
    assert f"cancelling job {job_id} …" in terminal.lines
    assert any(each.startswith("cancelled") for each in terminal.lines)
    assert running.job(job_id)["status"] == "CANCELLED"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_that_ends_the_command_leaves_the_job(
    command: CommandLine, running: EmbeddedSystem, number: signal.Signals, code: int
) -> None:
    with command.piped("run", *simulated(seconds=600), "alpine") as piped:
        piped.until("● running")
        piped.signal(number)
        assert piped.wait() == code
        found = re.search(r"docker-job stop (\d+)", piped.err)
    assert found
    assert running.job(int(found[1]))["status"] == "RUNNING"
    command.run("stop", found[1])


def test_an_interruption_is_one_line_and_the_next_attempt_is_followed(
    command: CommandLine, shared_metadata: MetadataService
) -> None:
    before = len(shared_metadata.tokens)
    with command.terminal("run", *simulated(seconds=3), "alpine") as terminal:
        terminal.until("● running")
        shared_metadata.interrupt(after=before)
        assert terminal.wait() == 0
    [line] = [each for each in terminal.lines if "interrupted" in each]
    assert re.fullmatch(
        r" ↻ interrupted Spot notice \d\d:\d\d:\d\d(, replacement \w+ \(attempt 2\))?", line
    )
    assert " · 2 attempts" in terminal.text
    assert sum(each.startswith(" ✓ booting") for each in terminal.lines) == 2


def test_a_retry_says_how_the_attempt_ended_and_which_one_follows(command: CommandLine) -> None:
    done = command.run("run", "--retries", "1", *simulated(exit_code=7), "alpine")
    assert done.returncode == 7
    assert " ✕ failed      exited 7; attempt 2 follows" in done.stderr.splitlines()
    assert "exited 7 · " in done.stderr.splitlines()[-1]


def test_a_record_that_is_removed_meanwhile_is_said(
    command: CommandLine, running: EmbeddedSystem
) -> None:
    with command.piped("run", "--at", "+1d", "alpine") as piped:
        piped.until("○ scheduled")
        found = re.search(r"job (\d+) ·", piped.err)
        assert found
        running.http.delete(f"/jobs/{found[1]}")
        until(lambda: running.http.delete(f"/jobs/{found[1]}/record").status_code in (204, 404))
        assert piped.wait() in (125, 130)
        assert "cancelled" in piped.err or "The record of job" in piped.err


def test_an_idempotency_key_makes_one_job_of_two_runs(command: CommandLine) -> None:
    key = f"key-{os.getpid()}"
    first, second = (
        command.run("run", "-d", "--idempotency-key", key, *simulated(), "alpine") for _ in "ab"
    )
    assert first.stdout == second.stdout != ""


def test_a_narrowed_window_cuts_the_live_line_and_never_wraps_it(command: CommandLine) -> None:
    with command.terminal("run", *simulated(seconds=3), "alpine", columns=12) as terminal:
        terminal.until("● running")
        terminal.resize(40)
        assert terminal.wait() == 0
    assert b"\x1b[?7l" in terminal.bytes


def test_a_system_that_is_killed_in_the_middle_is_followed_on(
    command: CommandLine, running: EmbeddedSystem
) -> None:
    with command.terminal("run", *simulated(seconds=4, output="after"), "alpine") as terminal:
        terminal.until("● running")
        running.kill()
        terminal.until("connection lost, trying again …")
        running.start()
        assert terminal.wait() == 0
    assert terminal.lines.count("connection lost, trying again …") == 1
    assert terminal.lines.count("after") == 1


def test_the_first_call_that_the_start_block_shows_runs_a_job(running: EmbeddedSystem) -> None:
    """As a newcomer copies it, with the command that `make run` has installed."""
    shown = re.search(r"^  try +(\S*docker-job .+)$", running.block, re.MULTILINE)
    assert shown, running.block
    done = subprocess.run(
        shlex.split(shown[1]), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1].startswith("exited 0 · ")
