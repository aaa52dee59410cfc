"""The agent with real containers, where a Docker engine answers and has the images."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.test_agent import (
    PATIENCE,
    AgentProcess,
    FakeApi,
    FakeMetadata,
    running,
)

SHELL_IMAGE = "debian:trixie-slim"
PYTHON_IMAGE = "python:3.13-slim"
LEFT_BEHIND = ["alive.lock", "ended", "pid", "stderr"]
STUBBORN = ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"]


def docker(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.fixture(scope="module", autouse=True)
def _engine() -> None:
    if shutil.which("docker") is None or docker("version").returncode != 0:
        pytest.skip("no Docker engine answers on this machine")
    for image in (SHELL_IMAGE, PYTHON_IMAGE):
        if docker("image", "inspect", image).returncode != 0:
            pytest.skip(f"the Docker engine has no {image}")


@contextmanager
def built(*lines: str, base: str = SHELL_IMAGE) -> Iterator[str]:
    """Build an image of these lines of a Dockerfile; remove it at the end."""
    name = f"docker-job-test-built-{os.getpid()}"
    dockerfile = "\n".join([f"FROM {base}", *lines])
    made = docker("build", "--pull=false", "--tag", name, "-", stdin=dockerfile)
    if made.returncode != 0:
        pytest.skip(f"the Docker engine builds no image: {made.stderr[-200:]}")
    try:
        yield name
    finally:
        docker("image", "rm", "--force", name)


@contextmanager
def running_docker(api: FakeApi, directory: Path, **env: str) -> Iterator[AgentProcess]:
    """Run an agent on the docker runtime; it must leave no container behind."""
    with running(api, directory, DOCKER_JOB_RUNTIME="docker", **env) as agent:
        yield agent
    listed = docker("ps", "-aq", "--filter", f"label=docker-job.instance={agent.instance_id}")
    assert listed.stdout == ""
    assert sorted(path.name for path in directory.iterdir()) == LEFT_BEHIND


def test_env_values_reach_the_container_verbatim_and_nothing_of_ours_does(tmp_path: Path) -> None:
    values = {
        "SPACES": "  lead and trail  ",
        "QUOTES": "\"double\" 'single'",
        "HASH": "a#b # c",
        "EMPTY": "",
        "DOLLAR": "$HOME `id` \\n \\",
        "EQUALS": "a=b=c",
        "TAB": "a\tb",
        "RETURN": "middle\rend\r",
        "PEM": "-----BEGIN KEY-----\nbGluZQ==\r\n-----END KEY-----\n\n",
        "UNICODE": "é☃😀",
        "_long": "x" * 120_000,
    }
    show = "import json, os; print(json.dumps(dict(os.environ)).replace('x' * 120_000, 'LONG'))"
    api = FakeApi(docker_image=PYTHON_IMAGE, command=["python", "-c", show], env_vars=values)
    with running_docker(api, tmp_path / "i", DOCKER_JOB_DEPLOYMENT="ours") as agent:
        assert agent.wait() == 0

    assert api.callbacks == [{"exit_code": 0}]
    assert api.phases == ["pulling", "running"]
    seen = json.loads("".join(api.lines("stdout")))
    assert {name: seen.get(name) for name in values} == {**values, "_long": "LONG"}
    assert [name for name in seen if name.startswith("DOCKER_JOB_")] == []
    assert "lead and trail" not in agent.log


def test_the_command_goes_to_the_container_as_it_is(tmp_path: Path) -> None:
    command = ["printf", "%s\\n", "--rm", "a b", "$HOME", ";", "", "*"]
    api = FakeApi(docker_image=SHELL_IMAGE, command=command)
    with running_docker(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    assert api.lines("stdout") == command[2:]


def test_the_entrypoint_replaces_that_of_the_image(tmp_path: Path) -> None:
    api = FakeApi(docker_image=SHELL_IMAGE, entrypoint=["printf", "%s\\n", "a b"], command=["c"])
    with running_docker(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    assert api.lines("stdout") == ["a b", "c"]


def test_a_container_fails_with_its_own_code_and_the_last_lines_of_its_stderr(
    tmp_path: Path,
) -> None:
    script = "echo out; for i in 1 2 3 4; do echo line $i >&2; done; exit 3"
    api = FakeApi(docker_image=SHELL_IMAGE, command=["sh", "-c", script])
    with running_docker(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    message = "line 2\nline 3\nline 4"
    assert api.callbacks == [{"failed": "", "error_message": message, "exit_code": 3}]
    assert api.lines("stdout") == ["out"]


def test_a_command_that_is_not_in_the_image_fails_and_is_named(tmp_path: Path) -> None:
    api = FakeApi(docker_image=SHELL_IMAGE, command=["nosuchcommand"])
    with running_docker(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    [callback] = api.callbacks
    assert callback["exit_code"] == 127
    assert "nosuchcommand" in callback["error_message"]


def test_an_image_that_is_nowhere_fails_with_the_reason_and_no_address(tmp_path: Path) -> None:
    api = FakeApi(docker_image="127.0.0.1:9/no/such-image")
    api.settings["pull_retry_seconds"] = 0
    with running_docker(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    [callback] = api.callbacks
    assert callback["failed"] == ""
    assert callback["error_message"] == "the registry does not answer: connection refused"
    assert "exit_code" not in callback


def test_a_container_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    api = FakeApi(docker_image=SHELL_IMAGE, command=STUBBORN, timeout_seconds=0.5)
    api.settings["stop_grace_seconds"] = 0.5
    with running_docker(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    [callback] = api.callbacks
    assert callback["timed_out"] is True
    assert "killing the container" in agent.log


def test_a_program_that_minds_sigterm_gets_it_though_it_is_the_only_one(tmp_path: Path) -> None:
    script = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.1; done"
    api = FakeApi(docker_image=SHELL_IMAGE, command=["sh", "-c", script])
    metadata = FakeMetadata()
    with metadata.serving():
        endpoint = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.url}
        with running_docker(api, tmp_path / "i", **endpoint) as agent:
            api.wait_for(lambda: "ready" in api.lines("stdout"))
            metadata.give_notice(seconds=0)
            assert agent.wait() == 0

    assert api.lines("stdout") == ["ready", "bye"]
    assert api.callbacks == [{"schedule": ""}, {"exit_code": 0}]


def test_what_a_container_prints_on_a_cancels_sigterm_is_reported_with_its_exit_code(
    tmp_path: Path,
) -> None:
    script = 'trap "echo bye; exit 7" TERM; echo ready; while :; do sleep 0.1; done'
    api = FakeApi(docker_image=SHELL_IMAGE, command=["sh", "-c", script])
    api.keeps = True
    with running_docker(api, tmp_path / "i") as agent:
        api.wait_for(lambda: "ready" in api.lines("stdout"))
        api.change(over=True)
        assert agent.wait() == 0

    assert api.lines("stdout") == ["ready", "bye"]
    assert api.callbacks == [{"failed": "", "error_message": "stopped", "exit_code": 7}]


@pytest.mark.parametrize("count", [40_000, 200_000])
def test_a_container_that_prints_faster_than_the_api_takes_it_waits_and_loses_nothing(
    tmp_path: Path, count: int
) -> None:
    api = FakeApi(docker_image=SHELL_IMAGE, command=["seq", "1", str(count)])
    api.settings["log_limit_bytes"] = 10 * 1024 * 1024
    with running_docker(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    assert api.lines("stdout") == [str(number) for number in range(1, count + 1)]
    assert api.lines("docker-job") == []
    assert api.callbacks == [{"exit_code": 0}]


def test_both_streams_long_lines_and_an_end_without_a_newline_arrive(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "for n in range(3000):\n"
        "    print(n); print(-n, file=sys.stderr)\n"
        "print('x' * 100_000); print('a\\rb\\r'); print('no end', end='')\n"
    )
    api = FakeApi(docker_image=PYTHON_IMAGE, command=["python", "-c", script])
    with running_docker(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    out = api.lines("stdout")
    assert out[:3000] == [str(number) for number in range(3000)]
    assert "".join(out[3000:-2]) == "x" * 100_000
    assert out[-2:] == ["b", "no end"]
    assert api.lines("stderr") == [str(-number) for number in range(3000)]


def test_the_anonymous_volumes_of_a_container_go_with_it(tmp_path: Path) -> None:
    script = "awk '$5 == \"/data\" {print $4}' /proc/self/mountinfo"
    with built("VOLUME /data") as image:
        api = FakeApi(docker_image=image, command=["sh", "-c", script])
        with running_docker(api, tmp_path / "i") as agent:
            assert agent.wait() == 0

    [volume] = api.lines("stdout")
    name = volume.removesuffix("/_data").rpartition("/")[2]
    assert re.fullmatch("[0-9a-f]{64}", name)
    assert docker("volume", "inspect", name).returncode != 0


def test_an_attempt_that_is_over_leaves_no_container(tmp_path: Path) -> None:
    api = FakeApi(docker_image=SHELL_IMAGE, command=["sleep", "60"])
    with running_docker(api, tmp_path / "i") as agent:
        api.wait_for(lambda: "running" in api.phases)
        api.change(over=True)
        assert agent.wait() == 0

    assert api.callbacks == []


def test_sigterm_to_the_agent_removes_even_a_stubborn_container(tmp_path: Path) -> None:
    api = FakeApi(docker_image=SHELL_IMAGE, command=STUBBORN)
    with running_docker(api, tmp_path / "i") as agent:
        api.wait_for(lambda: "ready" in api.lines("stdout"))
        agent.process.terminate()
        assert agent.wait() == 0

    assert api.callbacks == []


def test_the_maximum_lifetime_removes_the_container(tmp_path: Path) -> None:
    api = FakeApi(docker_image=SHELL_IMAGE, command=STUBBORN)
    lifetime = {"DOCKER_JOB_MAX_LIFETIME_SECONDS": "2"}
    with running_docker(api, tmp_path / "i", **lifetime) as agent:
        api.wait_for(lambda: "ready" in api.lines("stdout"))
        assert agent.wait() == 0

    assert agent.reason == "maximum lifetime"


def test_the_container_of_a_killed_agent_is_removed_by_its_guard(tmp_path: Path) -> None:
    api = FakeApi(docker_image=SHELL_IMAGE, command=STUBBORN)
    with running(api, tmp_path / "i", DOCKER_JOB_RUNTIME="docker") as agent:
        api.wait_for(lambda: "ready" in api.lines("stdout"))
        name = f"docker-job-{agent.instance_id}"
        agent.process.kill()
        agent.wait()
        docker("wait", name)  # returns when it has stopped, or if it is gone already

    state = docker("inspect", "--format", "{{.State.Running}}", name)
    assert state.stdout.strip() in ("", "false")


def test_a_container_whose_client_is_cut_off_runs_on_and_is_attached_again(tmp_path: Path) -> None:
    script = "echo ready; sleep 2; echo still here; exit 3"
    api = FakeApi(docker_image=SHELL_IMAGE, command=["sh", "-c", script])
    with running_docker(api, tmp_path / "i") as agent:
        api.wait_for(lambda: "ready" in api.lines("stdout"))
        for child in agent.children():
            if b"--attach" in Path(f"/proc/{child}/cmdline").read_bytes():
                os.kill(child, signal.SIGKILL)
        assert agent.wait() == 0

    assert api.lines("stdout") == ["ready", "still here"]
    assert api.callbacks[0]["exit_code"] == 3
    assert "attaching again" in agent.log
    [note] = api.lines("docker-job")
    assert note == "[docker-job: the output was cut off for a while, lines may be missing]"


def test_a_job_with_gpus_on_a_machine_that_has_none_fails_in_docker_s_own_words(
    tmp_path: Path,
) -> None:
    if "nvidia" in docker("info", "--format", "{{json .Runtimes}}").stdout:
        pytest.skip("this machine's engine has NVIDIA's runtime")
    api = FakeApi(docker_image=SHELL_IMAGE, command=["true"], gpus=1)
    with running_docker(api, tmp_path / "i") as agent:
        assert agent.wait() == 0
    (last,) = api.callbacks
    assert "exit_code" not in last  # none of the container's, which has not run
    assert "could not select device driver" in str(last["error_message"])
