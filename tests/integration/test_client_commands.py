"""The commands about the client itself: login, contexts, doctor, and Docker's plugin."""

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from docker_job import __version__
from docker_job.cli.app import run
from docker_job.cli.commands.plugin import plugin_path, script_of
from docker_job.cli.main import group
from docker_job.config import Context, config_path, load
from tests.integration.conftest import migrated_database
from tests.integration.test_api_keys import a_key
from tests.support.api.served_world import SERVED, ServedWorld, served_world
from tests.support.run.ports import free_port
from tests.support.servers.scripted_api import Answer, scripted_api

KEY = "djk_0123456789"


class Ran(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str


Command = Callable[..., Ran]


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Return a function that runs a command line, with a home of its own."""
    for name in ("URL", "KEY", "KEY_FILE", "CONTEXT", "INSECURE", "CACERT"):
        monkeypatch.delenv(f"DOCKER_JOB_{name}", raising=False)
    monkeypatch.setenv("DOCKER_JOB_CONFIG", str(tmp_path / "config.json"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))

    def call(*arguments: str, stdin: str = "") -> Ran:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capsys.readouterr()
        code = run(group, list(arguments), "docker-job")
        return Ran(code, *capsys.readouterr())

    return call


@pytest.fixture
def keyed(postgres_server: str, template_database: str) -> Iterator[tuple[ServedWorld, str]]:
    """Serve an API that has a key; return the key too."""
    with (
        migrated_database(postgres_server, template_database) as database,
        served_world(database, **SERVED) as served,
    ):
        yield served, served.do(a_key(served.world, "submit"))


def about(**fields: Any) -> Answer:
    now = datetime.now(UTC).isoformat()
    key = {"name": "me", "scope": "submit"}
    return Answer(200, json.dumps({"version": __version__, "now": now, "key": key, **fields}))


READY = Answer(200, '{"status": "ready"}')


# -- login and contexts


def test_login_checks_the_key_and_stores_it_for_its_owner_alone(
    command: Command, keyed: tuple[ServedWorld, str]
) -> None:
    served, key = keyed
    ran = command("login", served.base_url, "--key-stdin", stdin=f"{key}\n")
    assert ran.code == 0, ran.err
    assert key not in ran.out + ran.err
    name = f"127.0.0.1:{served.port}"
    assert load(config_path()).contexts == {name: Context(served.base_url, key)}
    assert config_path().stat().st_mode & 0o777 == 0o600
    shown = json.loads(command("context", "show", "--json").out)
    assert (shown["url"], shown["context"]) == (served.base_url, name)


def test_login_with_a_wrong_key_stores_nothing(
    command: Command, keyed: tuple[ServedWorld, str]
) -> None:
    ran = command("login", keyed[0].base_url, "--key-stdin", stdin=KEY)
    assert ran.code == 125
    assert len(ran.err.splitlines()) == 2
    assert KEY not in ran.out + ran.err
    assert not config_path().exists()


def test_login_without_a_terminal_says_how_to_give_the_key(
    command: Command, keyed: tuple[ServedWorld, str]
) -> None:
    ran = command("login", keyed[0].base_url)
    assert ran.code == 125
    assert ran.err.splitlines()[0].endswith("needs an API key.")
    assert "--key-stdin" in ran.err


def test_login_asks_for_the_key_and_does_not_show_it(
    command: Command, keyed: tuple[ServedWorld, str]
) -> None:
    served, key = keyed
    assert command("context", "ls").code == 0
    on_a_terminal = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"
    login = [sys.executable, "-m", "docker_job", "login", served.base_url]
    with subprocess.Popen(
        [sys.executable, "-c", on_a_terminal, *login],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        shown = b""
        while not shown.endswith(b"API key: "):
            shown += running.stdout.read(1) or pytest.fail(shown.decode())
        running.stdin.write(f"{key}\n".encode())
        running.stdin.flush()
        shown += running.stdout.read()
    assert running.returncode == 0, shown.decode()
    assert key not in shown.decode()
    assert load(config_path()).contexts[f"127.0.0.1:{served.port}"].key == key


def test_login_to_an_api_without_keys_asks_for_none(command: Command, served: ServedWorld) -> None:
    ran = command("login", served.base_url, "--name", "here")
    assert ran.code == 0, ran.err
    assert "needs no key yet" in ran.out
    assert load(config_path()).current == "here"


def test_login_says_what_the_key_may_do(command: Command) -> None:
    with scripted_api(about()) as api:
        ran = command("login", api.url, "--key-stdin", stdin=KEY)
        assert "'me', scope submit: it may read, schedule and cancel." in ran.out
        assert api.seen[0].headers["Authorization"] == f"Bearer {KEY}"


def test_a_key_for_another_machine_needs_https_or_insecure(command: Command) -> None:
    ran = command("login", "http://jobs.invalid", "--key-stdin", stdin=KEY)
    assert ran.code == 125
    assert "in clear" in ran.err
    assert "--insecure" in ran.err


def test_contexts_are_listed_chosen_and_removed(command: Command) -> None:
    with scripted_api(about(key=None)) as api:
        command("login", api.url, "--name", "one")
        command("login", api.url, "--name", "two")
    assert [line[:5] for line in command("context", "ls").out.splitlines()] == [
        *("  NAM", "  one", "* two")
    ]
    assert command("context", "use", "one").code == 0
    listed = json.loads(command("context", "ls", "--json").out)
    assert [each["name"] for each in listed if each["current"]] == ["one"]
    ran = command("context", "use", "three")
    assert (ran.code, ran.err.splitlines()[0]) == (125, "There is no context 'three'.")
    assert command("context", "rm", "one", "two").out.split() == ["one", "two"]
    assert "No contexts yet" in command("context", "ls").err


def test_logout_forgets_the_key_and_keeps_the_context(command: Command) -> None:
    with scripted_api(about()) as api:
        command("login", api.url, "--name", "one", "--key-stdin", stdin=KEY)
    assert command("logout").code == 0
    assert KEY not in config_path().read_text()
    assert load(config_path()).contexts["one"].key is None
    assert "has no key" in command("logout", "one").out


# -- errors and exit codes


def test_an_api_that_is_not_there_is_two_lines_and_125(command: Command) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    ran = command("--url", url, "context", "show")
    assert ran.code == 0
    ran = command("login", url)
    assert ran.code == 125
    assert ran.err.splitlines() == [
        f"Cannot reach {url}: connection refused.",
        'Start it with "make run", or choose another with "docker-job login URL".',
    ]


def test_a_command_line_that_is_wrong_is_two_lines_and_2(command: Command) -> None:
    ran = command("context", "rm")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.splitlines()[1] == "See 'docker-job context rm --help'."
    assert command("no-such-command").code == 2


def test_without_a_command_the_help_is_shown(command: Command) -> None:
    ran = command()
    assert ran.code == 0
    assert "install-plugin" in ran.out


def test_who_has_read_enough_gets_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ran = subprocess.run(
        [sys.executable, "-m", "docker_job", "--help"],
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=30,
        check=False,
    )
    os.close(writing)
    assert (ran.returncode, ran.stderr) == (1, b"")


# -- doctor


def test_doctor_finds_nothing_wrong(command: Command) -> None:
    with scripted_api(READY, about()) as api:
        ran = command("--url", api.url, "doctor")
    assert ran.code == 0, ran.out
    assert "✗" not in ran.out
    assert [line.split()[1] for line in ran.out.splitlines() if line.startswith("✓")] == [
        *("client", "API", "readiness", "version", "key", "clock")
    ]


def test_doctor_says_what_is_wrong_and_what_to_do(command: Command) -> None:
    degraded = json.dumps(
        {"status": "ready", "message": "the broker is away", "degraded": ["broker"]}
    )
    late = (datetime.now(UTC) + timedelta(minutes=2)).isoformat()
    with scripted_api(Answer(200, degraded), about(now=late, version="9.9.0")) as api:
        ran = command("--url", api.url, "doctor", "--json")
    found = json.loads(ran.out)
    assert (ran.code, found["ok"]) == (1, False)
    wrong = {each["name"]: each for each in found["checks"] if each["ok"] is False}
    assert wrong.keys() == {"readiness", "clock"}
    assert wrong["readiness"]["found"] == "the broker is away"
    assert "behind the API's" in wrong["clock"]["found"]
    assert all(each["hint"] for each in wrong.values())


def test_doctor_without_an_api_or_with_a_wrong_key_says_so(
    command: Command, keyed: tuple[ServedWorld, str]
) -> None:
    ran = command("--url", f"http://127.0.0.1:{free_port()}", "doctor")
    assert ran.code == 1
    assert "✗ API" in ran.out
    ran = command("--url", keyed[0].base_url, "doctor")
    assert ran.code == 1
    assert "✗ key" in ran.out


def test_doctor_sees_a_configuration_file_that_others_can_read(command: Command) -> None:
    with scripted_api(READY, about()) as api:
        command("login", api.url)
        config_path().chmod(0o644)
        ran = command("doctor")
    assert ran.code == 1
    assert f"chmod 600 {config_path()}" in ran.out


# -- Docker's plugin


def docker(*arguments: str) -> Ran:
    ran = subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    return Ran(ran.returncode, ran.stdout, ran.stderr)


@pytest.fixture
def plugged(command: Command) -> Command:
    """Install the plugin for a Docker configuration of its own."""
    if shutil.which("docker") is None:
        pytest.skip("no docker client is installed")
    assert command("install-plugin").code == 0
    return command


def test_docker_lists_the_plugin_runs_it_and_passes_its_exit_code_on(plugged: Command) -> None:
    assert "job*" in docker("--help").out
    ran = docker("job", "--help")
    assert (ran.code, ran.out.splitlines()[0]) == (
        0,
        "Usage: docker job [OPTIONS] COMMAND [ARGS]...",
    )
    assert json.loads(docker("job", "context", "ls", "--json").out) == []
    assert docker("--debug", "job", "context", "ls").code == 0
    assert docker("job", "no-such-command").code == 2
    assert docker("job", "context", "use", "x").code == 125
    assert docker("help", "job", "context").out.startswith("Usage: docker job context")
    assert plugged("install-plugin").code == 0  # once more


def test_docker_completes_the_plugins_command_lines(plugged: Command) -> None:
    found = docker("__complete", "job", "context", "").out.splitlines()
    assert [line.split("\t")[0] for line in found] == ["ls", "rm", "show", "use", ":4"]


def test_the_plugin_runs_no_code_of_the_directory_that_it_is_called_in(
    plugged: Command, tmp_path: Path
) -> None:
    (tmp_path / "click.py").write_text("raise SystemExit('this is not click')")
    ran = subprocess.run(
        ["docker", "job", "context", "ls"], cwd=tmp_path, capture_output=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


def test_the_plugin_is_removed_and_what_is_not_ours_stays(plugged: Command) -> None:
    assert plugged("install-plugin", "--remove").code == 0
    assert not plugin_path().exists()
    assert "no plugin" in plugged("install-plugin", "--remove").out
    plugin_path().write_text("#!/bin/sh\n")
    for ran in (plugged("install-plugin"), plugged("install-plugin", "--remove")):
        assert ran.code == 125
        assert "another program" in ran.err
    assert plugin_path().read_text() == "#!/bin/sh\n"


def test_without_a_docker_client_it_says_what_to_use(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    ran = command("install-plugin")
    assert ran.code == 125
    assert ran.err.splitlines()[1].startswith("Use docker-job in its place")


def test_the_plugin_may_have_a_python_with_a_space_in_its_path() -> None:
    assert "exec '/my python' -P" in script_of("/my python")
