"""`docker-job ps`, `inspect`, `stats`, `cost`, `instances`, completion: what they show of jobs."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.run.command_line import COMMAND, CommandLine
from tests.support.systems.embedded_system import EmbeddedSystem
from tests.support.waiting import until

LONG_IMAGE = f"registry.example.com/team/app@sha256:{'0123456789abcdef' * 4}"
COLOUR = re.compile(rb"\x1b\[3\dm|\x1b\[9\dm")


@pytest.fixture(scope="module")
def empty() -> Iterator[EmbeddedSystem]:
    """Run one system with the simulated runtime, without any job."""
    system = EmbeddedSystem(RUNTIME="simulated", HEARTBEAT_SECONDS="1")
    system.start()
    yield system
    system.close()


@pytest.fixture(scope="module")
def first_screen(empty: EmbeddedSystem, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return what `ps` shows on a terminal while there is no job."""
    with CommandLine(empty.address, tmp_path_factory.mktemp("home")).terminal("ps") as terminal:
        assert terminal.wait() == 0
    return terminal.text


@pytest.fixture(scope="module")
def jobs(empty: EmbeddedSystem, first_screen: str) -> dict[str, int]:
    """Make a job in each state; return their ids by what they are."""
    assert first_screen
    exits: dict[str, Any] = {"SIMULATE_EXIT_CODE": "3", "SIMULATE_ERROR": "no such table"}
    made = {
        "done": empty.schedule(name="nightly", labels={"team": "data"}),
        "failed": empty.schedule(env_vars=exits, name="broken", labels={"team": "ml"}),
        "running": empty.schedule(
            docker_image=LONG_IMAGE, env_vars={"SIMULATE_SECONDS": "600"}, labels={"team": "data"}
        ),
        "cancelled": empty.schedule("+1d", name="a\x1b[2Jb"),
        "scheduled": empty.schedule("+3h", name="later"),
    }
    empty.http.delete(f"/jobs/{made['cancelled']}")
    empty.follow(made["done"])
    empty.follow(made["failed"])
    until(lambda: empty.job(made["running"])["phase"] == "running")
    return made


@pytest.fixture
def command(empty: EmbeddedSystem, tmp_path: Path) -> CommandLine:
    return CommandLine(empty.address, tmp_path)


def ids(text: str) -> list[int]:
    return [int(each) for each in text.split()]


def test_without_a_job_the_table_teaches_how_to_run_one(first_screen: str) -> None:
    assert first_screen.startswith("ID  NAME  IMAGE  STATUS")
    assert "No jobs yet. Run one:\n  docker-job run python:3.13-slim" in first_screen


def test_ps_shows_what_is_not_over_and_with_a_all_with_the_status_in_words(
    command: CommandLine, jobs: dict[str, int]
) -> None:
    done = command.run("ps")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.findall(r"^\d+", done.stdout, re.MULTILINE) == [
        str(jobs["scheduled"]),
        str(jobs["running"]),
    ]
    text = command.run("ps", "-a").stdout
    heading = "ID NAME IMAGE STATUS STARTED DURATION TRIES COST"
    assert " ".join(text.splitlines()[0].split()) == heading
    for words in (
        rf"{jobs['done']} +nightly +alpine +Exited \(0\) \d+(s| min) ago +\d\d:\d\d +[\d.]+s +1 ",
        rf"{jobs['failed']} +broken +alpine +Failed \(3\) ",
        rf"{jobs['running']} +– +{LONG_IMAGE} +Running \d+[ms] ",
        rf"{jobs['cancelled']} +a�\[2Jb +alpine +Cancelled ",
        rf"{jobs['scheduled']} +later +alpine +Scheduled in 3h +– +– +1 +–",
    ):
        assert re.search(f"^{words}", text, re.MULTILINE), (words, text)


def test_a_terminal_gets_shapes_and_colours_within_its_width_and_a_pipe_none(
    command: CommandLine, jobs: dict[str, int]
) -> None:
    with command.terminal("ps", "-a", columns=90) as terminal:
        assert terminal.wait() == 0
    assert all(len(line) <= 90 for line in terminal.lines)
    for words in ("✓ Exited (0)", "✕ Failed (3)", "● Running", "– Cancelled", "○ Scheduled"):
        assert words in terminal.text
    assert "registry.ex" in terminal.text
    assert LONG_IMAGE not in terminal.text
    assert COLOUR.search(terminal.bytes)
    assert b"\x1b[2J" not in terminal.bytes, "a job's name moves no cursor"
    with command.terminal("ps", "-a", columns=90, NO_COLOR="1") as plain:
        assert plain.wait() == 0
    assert not COLOUR.search(plain.bytes)
    assert plain.lines == terminal.lines or "ago" in plain.text
    with command.terminal("ps", "-a", "--no-trunc", columns=90) as whole:
        assert whole.wait() == 0
    assert LONG_IMAGE in whole.text
    assert "\x1b" not in command.run("ps", "-a").stdout
    assert jobs


def test_ps_prints_ids_json_and_templates(command: CommandLine, jobs: dict[str, int]) -> None:
    newest_first = sorted(jobs.values(), reverse=True)
    assert ids(command.run("ps", "-aq").stdout) == newest_first
    array = json.loads(command.run("ps", "-a", "--json").stdout)
    assert [each["id"] for each in array] == newest_first
    lines = command.run("ps", "-a", "--format", "json").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == newest_first
    named = command.run("ps", "-a", "--format", r"{{.ID}}\t{{.State}}\t{{.Labels.team}}")
    assert f"{jobs['failed']}\tFAILED\tml\n" in named.stdout
    table = command.run("ps", "-a", "--format", r"table {{.ID}}\t{{upper .Name}}")
    assert table.stdout.splitlines()[0].split() == ["ID", "NAME"]
    assert "NIGHTLY" in table.stdout
    wrong = command.run("ps", "-a", "--format", "{{.Nmae}}")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    first, second = wrong.stderr.splitlines()
    assert first == "--format: there is no field .Nmae."
    assert second.startswith("The fields are .ID, .Name, .Image, .Status")


def test_ps_filters(command: CommandLine, jobs: dict[str, int]) -> None:
    def found(*arguments: str) -> set[int]:
        return set(ids(command.run("ps", "-q", *arguments).stdout))

    assert found("--filter", "status=failed") == {jobs["failed"]}
    assert found("-f", "status=failed,done") == {jobs["failed"], jobs["done"]}
    assert found("-a", "--filter", "label=team=data") == {jobs["done"], jobs["running"]}
    assert found("-a", "-f", "label=team=data", "-f", "status=done") == {jobs["done"]}
    assert found("-a", "--filter", "name=nightly") == {jobs["done"]}
    assert found("-a", "--filter", f"image={LONG_IMAGE}") == {jobs["running"]}
    assert found("-a", "--filter", "q=NIGHT") == {jobs["done"]}
    assert found("-n", "2") == {jobs["scheduled"], jobs["cancelled"]}
    assert found("-a", "--since", "1h") == set(jobs.values())
    assert found("-a", "--until", "1h") == set()


def test_a_wrong_filter_or_time_is_answered_with_what_is_right(command: CommandLine) -> None:
    for arguments, words in (
        (("--filter", "colour=red"), "write status, label, name, image, project or q"),
        (("--filter", "label=team"), "write label=team=VALUE"),
        (("--filter", "failed"), "write failed=VALUE"),
    ):
        refused = command.run("ps", *arguments)
        assert refused.returncode == 2
        assert words in refused.stderr.splitlines()[0]
        assert refused.stderr.splitlines()[1] == "See 'docker-job ps --help'."
    refused = command.run("ps", "--since", "yesterday")
    assert refused.returncode == 125
    assert refused.stderr.startswith("since must be")


def test_a_filter_that_nothing_matches_says_so_on_a_terminal(
    command: CommandLine, jobs: dict[str, int]
) -> None:
    with command.terminal("ps", "--filter", "name=nobody") as terminal:
        assert terminal.wait() == 0
    assert "No job matches." in terminal.text
    assert command.run("ps", "--filter", "name=nobody").stderr == ""
    assert jobs


def test_ps_watch_draws_each_change_until_ctrl_c(
    command: CommandLine, empty: EmbeddedSystem, jobs: dict[str, int]
) -> None:
    with command.terminal("ps", "--watch") as terminal:
        terminal.until("Ctrl-C ends this")
        terminal.until("later")
        watched = empty.schedule(name="watched", env_vars={"SIMULATE_SECONDS": "600"})
        terminal.until("watched")
        until(lambda: terminal.text.count("● Running") >= 2, what=terminal.text)
        terminal.press("\x03")
        assert terminal.wait() == 0
    assert terminal.bytes.endswith(b"\x1b[?25h") or b"\x1b[?25h" in terminal.bytes[-200:]
    empty.http.delete(f"/jobs/{watched}")
    piped = command.run("ps", "--watch")
    assert piped.returncode == 2
    assert piped.stderr.splitlines()[1] == "For a pipe there is: docker-job events --json"
    assert jobs


def test_inspect_shows_jobs_by_id_and_name_also_beside_one_that_there_is_not(
    command: CommandLine, jobs: dict[str, int]
) -> None:
    done = command.run("inspect", "nightly", "nobody", str(jobs["failed"]))
    assert [each["id"] for each in json.loads(done.stdout)] == [jobs["done"], jobs["failed"]]
    assert done.returncode == 125
    assert done.stderr.splitlines() == [
        "No job is named 'nobody'.",
        '"docker-job ps -a" lists the jobs and their names.',
    ]
    unknown = command.run("inspect", "999999")
    assert (unknown.stdout, unknown.returncode) == ("[]\n", 125)
    assert unknown.stderr.startswith("there is no job 999999")
    template = "{{.Name}} {{.ExitCode}} {{(index .Attempts 0).Cause}}"
    shown = command.run("inspect", "--format", template, "broken")
    assert shown.stdout == "broken 3 failed\n"


def test_inspect_pretty_draws_the_attempts(command: CommandLine, jobs: dict[str, int]) -> None:
    text = command.run("inspect", "--pretty", "broken").stdout
    assert re.search(r"^Status +✕ Failed \(3\) ", text, re.MULTILINE)
    assert re.search(r"^Because +exited 3: no such table$", text, re.MULTILINE)
    assert re.search(r"^1 +\S*[░▒█]+ +[\d.]+s +failed \(3\) +process ", text, re.MULTILINE)
    scheduled = command.run("inspect", "--pretty", str(jobs["scheduled"])).stdout
    assert re.search(r"^Because +it is scheduled for ", scheduled, re.MULTILINE)


def test_stats_and_cost_count_what_finished_by_what_is_asked(
    command: CommandLine, jobs: dict[str, int]
) -> None:
    answer = json.loads(command.run("stats", "--json", "--by", "label:team").stdout)
    assert answer["by"] == "label:team"
    groups = {each["key"]: each for each in answer["groups"]}
    assert (groups["data"]["done"], groups["ml"]["failed"]) == (1, 1)
    assert answer["total"]["jobs"] >= 3
    text = command.run("stats", "--since", "1h", "--by", "status").stdout.splitlines()
    assert text[0].split()[:3] == ["STATUS", "JOBS", "DONE"]
    assert re.match(r"total +\d+ +1 +1 +\d+ ", text[-1])
    costs = command.run("cost", "--by", "label:team", "--format", "{{.Key}}={{.Jobs}}").stdout
    assert {"data=1", "ml=1"} <= set(costs.splitlines())
    assert command.run("cost").stdout.split()[:4] == ["DAY", "JOBS", "BILLED", "COST"]
    wrong = command.run("stats", "--by", "colour")
    assert (wrong.returncode, wrong.stderr[:3]) == (125, "by ")
    assert jobs


def test_instances_shows_what_runs_for_which_job(
    command: CommandLine, empty: EmbeddedSystem, jobs: dict[str, int]
) -> None:
    instance = empty.job(jobs["running"])["instance_id"]
    assert instance in command.run("instances", "-q").stdout.split()
    line = next(
        each for each in command.run("instances").stdout.splitlines() if each.startswith(instance)
    )
    assert re.match(rf"{instance} +\S+ +\S+ +.* {jobs['running']} +– +1 +running ", line)
    [found] = [
        each
        for each in json.loads(command.run("instances", "--json").stdout)
        if each["instance_id"] == instance
    ]
    assert found["job_id"] == jobs["running"]


def test_bash_completes_commands_options_and_jobs_and_prints_no_error(
    command: CommandLine, empty: EmbeddedSystem, jobs: dict[str, int]
) -> None:
    def completed(line: str, url: str = empty.address) -> list[str]:
        done = command.run(
            _DOCKER_JOB_COMPLETE="bash_complete",
            COMP_WORDS=line,
            COMP_CWORD=str(len(line.split()) - (not line.endswith(" "))),
            DOCKER_JOB_URL=url,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return [each.removeprefix("plain,") for each in done.stdout.split()]

    assert completed("docker-job in") == ["inspect", "install-plugin", "instances"]
    assert "--no-trunc" in completed("docker-job ps --n")
    assert "nightly" in completed("docker-job inspect ni")
    assert str(jobs["failed"]) in completed("docker-job logs ")
    assert completed("docker-job inspect a") == [], "a name that a shell would break is left out"
    assert completed("docker-job logs ", "http://127.0.0.1:9") == []


def test_completion_prints_a_script_for_each_shell(command: CommandLine) -> None:
    for shell in ("bash", "zsh", "fish"):
        script = command.run("completion", shell)
        assert script.returncode == 0
        assert "_DOCKER_JOB_COMPLETE" in script.stdout
    assert COMMAND
