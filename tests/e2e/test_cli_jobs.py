"""`docker-job logs`, `wait`, `stop` and `rerun` on a running system."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from docker_job.errors import LIST_THEM
from tests.e2e.test_cli_run import printed, simulated
from tests.support.run.command_line import CommandLine
from tests.support.systems.embedded_system import EmbeddedSystem


@pytest.fixture(scope="module")
def running() -> Iterator[EmbeddedSystem]:
    """Run one system with the simulated runtime for all tests of this module."""
    system = EmbeddedSystem(
        RUNTIME="simulated", HEARTBEAT_SECONDS="1", SECRETS_KEY="0f" * 32, RETRY_FIRST_SECONDS="0.5"
    )
    system.start()
    yield system
    system.close()


@pytest.fixture
def command(running: EmbeddedSystem, tmp_path: Path) -> CommandLine:
    return CommandLine(running.address, tmp_path)


def ended(system: EmbeddedSystem, name: str | None = None, **variables: object) -> str:
    """Run a job to its end; return its id."""
    env = {f"SIMULATE_{key.upper()}": str(value) for key, value in variables.items()}
    return str(system.follow(system.schedule(env_vars=env, name=name))["id"])


def test_logs_go_to_the_output_that_the_container_printed_them_to(
    command: CommandLine, running: EmbeddedSystem
) -> None:
    job = ended(running, "printer", output="out", error="err")
    done = command.run("logs", job)
    assert (printed(done.stdout), done.stderr) == (["out"], "err\n")
    by_name = command.run("logs", "printer")
    assert (by_name.stdout, by_name.returncode) == (done.stdout, 0)
    last = command.run("logs", "--tail", "1", job)
    assert len((last.stdout + last.stderr).splitlines()) == 1
    followed = command.run("logs", "-f", job)
    assert (followed.stdout, followed.stderr) == (done.stdout, done.stderr)


def test_logs_have_times_and_lines_since_a_time(
    command: CommandLine, running: EmbeddedSystem
) -> None:
    job = ended(running, output="out")
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
    assert re.fullmatch(f"{time} out", command.run("logs", "-t", job).stdout.splitlines()[-1])
    followed = command.run("logs", "-f", "-t", job).stdout
    assert followed == command.run("logs", "-t", job).stdout
    assert command.run("logs", "--since", "10m", job).stdout.splitlines()[-1] == "out"
    assert command.run("logs", "--since", "2100-01-01", job).stdout == ""
    assert "write an age like 10m" in command.run("logs", "--since", "once", job).stderr


def test_logs_of_several_jobs_begin_each_line_with_the_job(
    command: CommandLine, running: EmbeddedSystem
) -> None:
    first, second = ended(running, output="one"), ended(running, "other", output="two")
    for follow in ((), ("-f",)):
        done = command.run("logs", *follow, first, "other")
        width = max(len(first), len("other"))
        lines = set(done.stdout.splitlines())
        assert {f"{first:<{width}} | one", f"{'other':<{width}} | two"} <= lines
    documents = [
        json.loads(each) for each in command.run("logs", "--json", second).stdout.splitlines()
    ]
    assert documents[-1]["job"] == int(second)
    assert (documents[-1]["stream"], documents[-1]["text"]) == ("stdout", "two")


def test_logs_of_a_further_attempt_are_marked_alike_followed_or_not(
    command: CommandLine, running: EmbeddedSystem
) -> None:
    env = {"SIMULATE_EXIT_CODE": "1", "SIMULATE_OUTPUT": "again"}
    job = running.schedule(env_vars=env, retries=1)
    running.follow(job)
    done, followed = command.run("logs", str(job)), command.run("logs", "-f", str(job))
    assert done.stderr.splitlines()[1] == "--- attempt 2 ---"
    assert (followed.stdout, followed.stderr) == (done.stdout, done.stderr)
    second = command.run("logs", "-f", "--attempt", "2", str(job))
    assert printed(second.stdout) == ["again"]
    assert "--- attempt" not in second.stderr


def test_followed_logs_say_what_a_job_waits_for_and_ctrl_c_leaves_it(
    command: CommandLine, running: EmbeddedSystem
) -> None:
    job = str(running.schedule("+1d"))
    with command.terminal("logs", "-f", job) as terminal:
        terminal.until(f"job {job} does not run yet: it is scheduled for")
        terminal.press("\x03")
        assert terminal.wait() == 130
    assert running.job(int(job))["status"] == "SCHEDULED"


def test_wait_prints_each_exit_code_and_exits_with_the_highest(
    command: CommandLine, running: EmbeddedSystem
) -> None:
    good, bad = ended(running), ended(running, exit_code=3)
    later = str(running.schedule(env_vars={"SIMULATE_SECONDS": "1"}))
    done = command.run("wait", bad, later, good)
    assert (done.stdout, done.stderr, done.returncode) == ("3\n0\n0\n", "", 3)
    assert command.run("wait", good).returncode == 0
    [shown] = json.loads(command.run("wait", "--json", bad).stdout)
    assert (shown["status"], shown["exit_code"], shown["code"]) == ("FAILED", 3, 3)


def test_wait_on_many_draws_a_bar_on_a_terminal(
    command: CommandLine, running: EmbeddedSystem
) -> None:
    first = ended(running)
    second = str(running.schedule(env_vars={"SIMULATE_SECONDS": "2"}))
    with command.terminal("wait", first, second) as terminal:
        terminal.until("1 of 2 over")
        assert terminal.wait() == 0
    assert [each for each in terminal.lines if each] == ["0", "0"]


def test_stop_cancels_by_id_and_by_name_and_one_that_is_over_holds_up_no_other(
    command: CommandLine, running: EmbeddedSystem
) -> None:
    over, first = ended(running), str(running.schedule("+1d"))
    second = str(running.schedule("+1d", name="to stop"))
    done = command.run("stop", over, "no such job", first, "to stop")
    assert done.stdout.splitlines() == [first, second]
    assert f"job {over} is already DONE" in done.stderr
    assert "No job is named 'no such job'." in done.stderr
    assert done.returncode == 125
    assert {running.job(int(each))["status"] for each in (first, second)} == {"CANCELLED"}


def test_stop_by_a_filter_asks_first_and_says_whom_it_means(
    command: CommandLine, running: EmbeddedSystem
) -> None:
    jobs = [str(running.schedule("+1d", labels={"team": "stopped"})) for _ in "ab"]
    chosen = ("stop", "--filter", "label=team=stopped")
    refused = command.run(*chosen)
    assert refused.returncode == 2
    assert "-y" in refused.stderr
    with command.terminal(*chosen) as terminal:
        terminal.until("Cancel these 2 jobs? [y/N]")
        assert all(f"{job} · alpine" in terminal.text for job in jobs)
        terminal.press("n\n")
        assert terminal.wait() != 0
    assert {running.job(int(each))["status"] for each in jobs} == {"SCHEDULED"}
    done = command.run(*chosen, "-y")
    assert set(done.stdout.split()) == set(jobs)
    nothing = command.run(*chosen, "-y")
    assert (nothing.returncode, nothing.stdout) == (0, "")


def test_rerun_runs_the_job_again_with_what_is_changed_and_follows_it(
    command: CommandLine, running: EmbeddedSystem
) -> None:
    options = [*simulated(output="before"), "-e", "KEPT=1", "-m", "512m", "--name", "again"]
    old = command.run("run", "-d", *options, "alpine", "echo").stdout.strip()
    changed = ["-e", "SIMULATE_OUTPUT=after", "--cpus", "2", "--command", "echo 'two words'"]
    done = command.run("rerun", "again", *changed)
    assert (printed(done.stdout), done.returncode) == (["after"], 0)
    found = re.match(r"job (\d+) · again", done.stderr)
    assert found
    new = running.job(int(found[1]))
    assert new["rerun_of"] == int(old)
    assert new["env_vars"] == {"SIMULATE_OUTPUT": "after", "KEPT": "1"}
    assert new["resources"] == {"memory_mib": 512, "vcpus": 2}
    assert new["command"] == ["echo", "two words"]


def test_rerun_of_several_prints_the_new_ids(command: CommandLine, running: EmbeddedSystem) -> None:
    old = [ended(running), ended(running)]
    done = command.run("rerun", *old)
    new = done.stdout.split()
    assert [running.job(int(each))["rerun_of"] for each in new] == [int(each) for each in old]
    key = ("rerun", "--idempotency-key", "twice", *old)
    assert command.run(*key).stdout == command.run(*key).stdout


def test_rerun_of_what_failed_asks_first_and_is_safe_to_repeat(
    command: CommandLine, running: EmbeddedSystem
) -> None:
    env = {"SIMULATE_EXIT_CODE": "1"}
    labels = {"team": "failing"}
    failed = [running.schedule(env_vars=env, labels=labels) for _ in "ab"]
    for each in failed:
        running.follow(each)
    chosen = ("rerun", "--failed", "--since", "1h", "--filter", "label=team=failing")
    assert command.run(*chosen).returncode == 2
    with command.terminal(*chosen, "-e", "SIMULATE_EXIT_CODE=0") as terminal:
        terminal.until("Run these 2 jobs again? [y/N]")
        terminal.press("y\n")
        assert terminal.wait() == 0
    again = command.run(*chosen, "-y")
    assert (again.stdout, again.returncode) == ("", 0)
    assert "that was not run again" in again.stderr
    [new] = ({job["rerun_of"] for job in running.jobs() if job["rerun_of"] in failed},)
    assert new == set(failed)


def test_a_name_that_no_job_has_is_two_lines(command: CommandLine) -> None:
    done = command.run("logs", "nobody")
    assert done.returncode == 125
    assert done.stderr.splitlines()[0] == "No job is named 'nobody'."
    for follow in ((), ("-f",)):
        unknown = command.run("logs", *follow, "999999")
        assert unknown.returncode == 125
        assert unknown.stderr.splitlines() == ["there is no job 999999", LIST_THEM]
