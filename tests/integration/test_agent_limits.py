"""What a real container gets: limits, user, directories, signals, and what it leaves behind.

The images are built here, from the two base images and without a network.
"""

from __future__ import annotations

import contextlib
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent.docker_job_agent.container_spec import container_name, container_spec
from agent.docker_job_agent.engine_api import EngineApi
from agent.docker_job_agent.engine_events import had_oom
from agent.docker_job_agent.environment import Config
from agent.docker_job_agent.job import read_claim
from agent.docker_job_agent.machine import decide_own_limits, read_machine, reserve_bytes
from tests.integration.test_agent import PATIENCE, AgentProcess, FakeApi, FakeMetadata, running
from tests.integration.test_agent_docker import (
    PYTHON_IMAGE,
    SHELL_IMAGE,
    _engine,
    built,
    docker,
    running_docker,
)
from tests.support.waiting import until

__all__ = ["_engine"]

FILLS_MEMORY = "data = bytearray(400 * 1024 * 1024)"
# Of a parent whose child is killed.
CHILD_FILLS_MEMORY = f"""
import subprocess, sys
child = subprocess.run([sys.executable, "-c", {FILLS_MEMORY!r}])
print("child", child.returncode, flush=True)
print("the parent goes on", file=sys.stderr)
sys.exit(int(sys.argv[1]))
"""
SHOWS_MEMORY = """
import pathlib
for name in ("memory.max", "memory/memory.limit_in_bytes"):
    file = pathlib.Path("/sys/fs/cgroup", name)
    if file.exists():
        print(file.read_text().strip())
"""
SHOWS_CPUS = """
import pathlib
for name in ("cpu.max", "cpu/cpu.cfs_quota_us"):
    file = pathlib.Path("/sys/fs/cgroup", name)
    if file.exists():
        print(file.read_text().split()[0])
"""


def wait_until_ready(api: FakeApi) -> None:
    """Wait until the container has printed `ready`."""
    api.wait_for(lambda: "ready" in api.lines("stdout"))


def is_gone(container: str) -> bool:
    """Return whether the engine has no such container."""
    return docker("inspect", container).returncode != 0


def run(api: FakeApi, directory: Path) -> AgentProcess:
    """Run an agent to its end."""
    with running_docker(api, directory) as agent:
        assert agent.wait() == 0
    return agent


def printed(directory: Path, script: str, **job: Any) -> list[str]:
    """Return what a Python script prints in a container of this job."""
    api = FakeApi(docker_image=PYTHON_IMAGE, command=["python", "-c", script], **job)
    run(api, directory)
    assert api.callbacks == [{"exit_code": 0}]
    return api.lines("stdout")


# -- limits on a shared engine


def test_a_container_has_the_memory_and_the_cpus_that_the_job_asked_for(tmp_path: Path) -> None:
    asked = {"vcpus": 1, "memory_mib": 96}

    assert printed(tmp_path / "a", SHOWS_MEMORY, resources=asked) == [str(96 * 1024 * 1024)]
    assert printed(tmp_path / "b", SHOWS_CPUS, resources=asked) == ["100000"]


def test_a_job_that_asks_for_nothing_has_no_limit(tmp_path: Path) -> None:
    [memory] = printed(tmp_path / "a", SHOWS_MEMORY)
    [cpus] = printed(tmp_path / "b", SHOWS_CPUS)

    assert memory == "max" or int(memory) > 2**60
    assert cpus in ("max", "-1")


def test_a_job_that_asks_for_more_than_the_machine_has_runs_and_its_log_says_so(
    tmp_path: Path,
) -> None:
    asked = {"vcpus": 1024, "memory_mib": 33_554_432}
    api = FakeApi(docker_image=SHELL_IMAGE, command=["true"], resources=asked)
    run(api, tmp_path / "i")

    assert api.callbacks == [{"exit_code": 0}]
    memory, cpus = api.lines("docker-job")
    assert memory.startswith("[docker-job: resources.memory_mib is 33554432, this machine has ")
    assert cpus.startswith("[docker-job: resources.vcpus is 1024, this machine has ")


def test_the_engine_takes_the_limits_of_a_machine_of_the_instance_s_own() -> None:
    config = Config(
        api_url="http://api",
        job_id=7,
        attempt=1,
        instance_id=f"i-test-own-{os.getpid()}",
        deployment="",
        runtime="docker",
        metadata_url=None,
        terminate_grace_seconds=5.0,
    )
    job, settings = read_claim({"job": {"docker_image": SHELL_IMAGE, "command": ["true"]}})
    name = container_name(config)
    with contextlib.closing(EngineApi()) as engine:
        machine = read_machine(engine.request("GET", "/info").body)
        limits = decide_own_limits(job.resources, machine, gpus=False)
        spec = container_spec(config, job, settings, limits=limits)
        try:
            made = engine.request("POST", f"/containers/create?name={name}", spec)
            assert (made.status, made.body["Warnings"]) == (201, [])
            host = engine.request("GET", f"/containers/{name}/json").body["HostConfig"]
        finally:
            docker("rm", "--force", name)

    memory = machine.memory_bytes - reserve_bytes(machine.memory_bytes)
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"]) == (memory, memory, 0)
    assert 0 < memory < machine.memory_bytes


# -- out of memory


def test_a_container_that_exceeds_its_memory_is_reported_as_out_of_memory(tmp_path: Path) -> None:
    api = FakeApi(
        docker_image=PYTHON_IMAGE,
        command=["python", "-c", f"print('begins', flush=True); {FILLS_MEMORY}"],
        resources={"memory_mib": 64},
    )
    run(api, tmp_path / "i")

    note = "out of memory: the kernel killed the container (limit 64 MiB)"
    message = f"{note}\nbegins"
    assert api.callbacks == [{"failed": "", "error_message": message, "exit_code": 137}]
    assert api.lines("docker-job") == [f"[docker-job: {note}]"]


def test_a_shell_whose_child_was_killed_for_memory_is_out_of_memory_too(tmp_path: Path) -> None:
    script = f'python -c "{FILLS_MEMORY}"; exit $?'
    api = FakeApi(
        docker_image=PYTHON_IMAGE, command=["sh", "-c", script], resources={"memory_mib": 64}
    )
    run(api, tmp_path / "i")

    [callback] = api.callbacks
    assert callback["exit_code"] == 137
    assert callback["error_message"].startswith("out of memory: ")


@pytest.mark.parametrize("code", [3, 0])
def test_a_program_that_goes_on_after_its_child_was_killed_is_not_out_of_memory(
    tmp_path: Path, code: int
) -> None:
    command = ["python", "-c", CHILD_FILLS_MEMORY, str(code)]
    api = FakeApi(docker_image=PYTHON_IMAGE, command=command, resources={"memory_mib": 64})
    run(api, tmp_path / "i")

    note = "the kernel killed a process of the container for memory (limit 64 MiB)"
    message = f"{note}\nthe parent goes on"
    failed = {"failed": "", "error_message": message, "exit_code": 3}
    assert api.callbacks == [failed if code else {"exit_code": 0}]
    assert api.lines("stdout") == ["child -9"]
    assert api.lines("docker-job") == [f"[docker-job: {note}]"]


def test_a_container_that_the_agent_kills_is_not_out_of_memory_though_its_child_was(
    tmp_path: Path,
) -> None:
    script = f'python -c "{FILLS_MEMORY}"; trap "" TERM; echo ready; while :; do sleep 0.1; done'
    api = FakeApi(
        docker_image=PYTHON_IMAGE, command=["sh", "-c", script], resources={"memory_mib": 64}
    )
    api.settings["stop_grace_seconds"] = 0.2
    with running_docker(api, tmp_path / "i") as agent:
        wait_until_ready(api)
        kills = ("--filter", f"container=docker-job-{agent.instance_id}", "--filter", "event=oom")
        # The engine learns of it a little later than the program.
        until(lambda: docker("events", "--since=5m", "--until=0s", *kills).stdout, PATIENCE)
        api.change(over=True, keeps=True)
        assert agent.wait() == 0

    note = "the kernel killed a process of the container for memory (limit 64 MiB)"
    assert api.lines("docker-job") == [f"[docker-job: {note}]"]


def test_a_container_that_is_killed_by_someone_is_not_out_of_memory(tmp_path: Path) -> None:
    script = "echo ready; exec sleep 60"
    api = FakeApi(
        docker_image=SHELL_IMAGE, command=["sh", "-c", script], resources={"memory_mib": 64}
    )
    with running_docker(api, tmp_path / "i") as agent:
        wait_until_ready(api)
        docker("kill", f"docker-job-{agent.instance_id}")
        assert agent.wait() == 0

    [callback] = api.callbacks
    assert callback["exit_code"] == 137
    assert "out of memory" not in callback["error_message"]


@pytest.mark.parametrize("fills", [True, False])
def test_the_engine_s_events_tell_of_a_kill_that_the_state_does_not_have(*, fills: bool) -> None:
    """The state of the exit may be recorded before the event of the kill comes."""
    name = f"docker-job-test-events-{os.getpid()}-{fills}"
    script = FILLS_MEMORY if fills else "import os; os._exit(137)"
    limits = ("--memory", "64m", "--memory-swap", "64m")
    try:
        docker("run", "--name", name, *limits, PYTHON_IMAGE, "python", "-c", script)
        state = json.loads(docker("inspect", "--format", "{{json .State}}", name).stdout)
        assert state["ExitCode"] == 137
        assert had_oom(name, state) is fills
    finally:
        docker("rm", "--force", name)


def test_the_kernel_kills_a_container_before_the_agent(tmp_path: Path) -> None:
    script = "echo $(cat /proc/self/oom_score_adj); exec sleep 60"
    api = FakeApi(docker_image=SHELL_IMAGE, command=["sh", "-c", script])
    with running_docker(api, tmp_path / "i") as agent:
        api.wait_for(lambda: api.lines("stdout"))
        own = Path(f"/proc/{agent.process.pid}/oom_score_adj").read_text()
        agent.process.terminate()
        assert agent.wait() == 0

    assert api.lines("stdout") == ["800"]
    assert int(own) < 800


# -- how it is run


def test_user_directory_and_shared_memory_are_the_job_s(tmp_path: Path) -> None:
    script = (
        "import os; print(os.getuid(), os.getgid(), os.getcwd(), "
        "os.statvfs('/dev/shm').f_blocks * os.statvfs('/dev/shm').f_frsize)"
    )
    fields = {"user": "1234:4321", "working_dir": "/srv/not there", "shm_size_mib": 16}

    [line] = printed(tmp_path / "i", script, **fields)
    assert line == f"1234 4321 /srv/not there {16 * 1024 * 1024}"


def test_a_user_by_name_is_the_image_s(tmp_path: Path) -> None:
    script = "import os; print(os.getuid(), os.getgid())"

    assert printed(tmp_path / "i", script, user="nobody:daemon") == ["65534 1"]


def test_a_user_that_the_image_does_not_have_is_named(tmp_path: Path) -> None:
    api = FakeApi(docker_image=SHELL_IMAGE, command=["true"], user="stranger")
    run(api, tmp_path / "i")

    [callback] = api.callbacks
    assert "stranger" in callback["error_message"]
    assert "exit_code" not in callback


@pytest.mark.parametrize("user", [None, "1000"])
def test_a_read_only_container_has_a_place_for_temporary_files_alone(
    tmp_path: Path, user: str | None
) -> None:
    script = (
        "import os, tempfile\n"
        "os.chmod(tempfile.mkstemp()[1], 0o700)\n"
        "tempfile.TemporaryFile(dir='/dev/shm')\n"
        "program = tempfile.mkdtemp() + '/run'\n"
        "open(program, 'w').write('#!/bin/sh\\necho runs')\n"
        "os.chmod(program, 0o700)\n"
        "print(os.popen(program).read().strip())\n"
        "try:\n    open('/etc/x', 'w')\nexcept OSError as error:\n    print(error.strerror)\n"
    )
    denied = "Read-only file system"

    assert printed(tmp_path / "i", script, read_only=True, user=user) == ["runs", denied]


def test_a_read_only_container_keeps_the_volumes_of_its_image_writable(tmp_path: Path) -> None:
    with built("VOLUME /data /tmp") as image:
        script = "echo a > /data/a && echo b > /tmp/b && cat /data/a /tmp/b"
        api = FakeApi(docker_image=image, command=["sh", "-c", script], read_only=True)
        run(api, tmp_path / "i")

    assert api.callbacks == [{"exit_code": 0}]
    assert api.lines("stdout") == ["a", "b"]


# As s6-overlay's: "s6-overlay-suexec: fatal: can only run as pid 1".
INIT = r"""RUN printf '#!/bin/sh\n[ $$ = 1 ] || exit 100\nexec "$@"\n' > /init && chmod +x /init"""


def test_an_image_whose_entrypoint_must_be_the_first_process_runs_unasked(tmp_path: Path) -> None:
    with built(INIT, 'ENTRYPOINT ["/init"]') as image:
        for number, (init, code) in enumerate([(None, 0), (False, 0), (True, 100)]):
            api = FakeApi(docker_image=image, command=["echo", "runs"], init=init)
            run(api, tmp_path / str(number))

            assert [each.get("exit_code") for each in api.callbacks] == [code]


def test_another_program_is_not_the_first_process_unless_asked(tmp_path: Path) -> None:
    script = "import os; print(os.getpid() == 1)"

    assert printed(tmp_path / "a", script) == ["False"]
    assert printed(tmp_path / "b", script, init=False) == ["True"]


def test_no_program_gets_more_rights_and_root_may_step_down(tmp_path: Path) -> None:
    with built("RUN cp /usr/bin/id /setuid-id && chmod u+s /setuid-id") as image:
        raised = FakeApi(docker_image=image, command=["/setuid-id", "-u"], user="1000")
        run(raised, tmp_path / "a")
        step = ["setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups", "id", "-u"]
        stepped = FakeApi(docker_image=image, command=step)
        run(stepped, tmp_path / "b")

    assert raised.lines("stdout") == ["1000"]  # and not 0
    assert stepped.lines("stdout") == ["1000"]


# -- the stop

TRAPS = (
    'CMD ["sh", "-c", "trap \'echo got INT; exit 42\' INT; trap \'echo got TERM; exit 43\' TERM;'
    " trap 'echo got RT; exit 44' 37;"
    ' echo ready; while :; do sleep 0.1; done"]'
)


@pytest.mark.parametrize(
    ("line", "asked", "said", "code"),
    [
        ("STOPSIGNAL SIGINT", None, "got INT", 42),
        ("STOPSIGNAL 2", None, "got INT", 42),
        ("STOPSIGNAL SIGRTMIN+3", None, "got RT", 44),
        ("STOPSIGNAL SIGINT", "SIGTERM", "got TERM", 43),
        ("LABEL a=b", "SIGRTMIN+3", "got RT", 44),
        ("LABEL a=b", None, "got TERM", 43),
    ],
)
def test_a_cancelled_container_gets_the_job_s_signal_or_its_image_s(
    tmp_path: Path, line: str, asked: str | None, said: str, code: int
) -> None:
    with built(line, TRAPS) as image:
        api = FakeApi(docker_image=image, stop_signal=asked)
        api.keeps = True
        with running_docker(api, tmp_path / "i") as agent:
            api.wait_for(lambda: "ready" in api.lines("stdout"))
            api.change(over=True)
            assert agent.wait() == 0

    assert api.lines("stdout") == ["ready", said]
    assert api.callbacks == [{"failed": "", "error_message": "stopped", "exit_code": code}]


def test_a_time_limit_a_notice_and_a_sigterm_send_the_image_s_signal_too(tmp_path: Path) -> None:
    with built("STOPSIGNAL SIGINT", TRAPS) as image:
        timed_out = FakeApi(docker_image=image, timeout_seconds=2)
        run(timed_out, tmp_path / "a")

        terminated = FakeApi(docker_image=image)
        with running_docker(terminated, tmp_path / "b") as agent:
            terminated.wait_for(lambda: "ready" in terminated.lines("stdout"))
            agent.process.terminate()
            assert agent.wait() == 0

        noticed, metadata = FakeApi(docker_image=image), FakeMetadata()
        with metadata.serving():
            endpoint = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.url}
            with running_docker(noticed, tmp_path / "c", **endpoint) as agent:
                noticed.wait_for(lambda: "ready" in noticed.lines("stdout"))
                metadata.give_notice(seconds=0)
                assert agent.wait() == 0

    assert "got INT" in timed_out.lines("stdout")
    assert noticed.lines("stdout") == ["ready", "got INT"]
    assert noticed.callbacks[-1] == {"schedule": "", "stopped": True, "exit_code": 42}
    assert "killing the container" not in agent.log


def test_the_grace_that_the_claim_gives_is_the_container_s(tmp_path: Path) -> None:
    script = (
        "trap 'sleep 1.5; echo cleaned up; exit 7' TERM; echo ready; while :; do sleep 0.1; done"
    )
    ends = {}
    for grace in (0, 30):
        api = FakeApi(docker_image=SHELL_IMAGE, command=["sh", "-c", script])
        api.settings["stop_grace_seconds"] = grace
        api.keeps = True
        with running_docker(api, tmp_path / str(grace)) as agent:
            wait_until_ready(api)
            api.change(over=True)
            assert agent.wait() == 0
        ends[grace] = (api.lines("stdout"), api.callbacks[-1]["exit_code"])

    assert ends == {0: (["ready"], 137), 30: (["ready", "cleaned up"], 7)}


# -- volumes


def volumes_of(agent: AgentProcess) -> list[str]:
    form = "{{json .Mounts}}"
    shown = docker("inspect", "--format", form, f"docker-job-{agent.instance_id}")
    return [each["Name"] for each in json.loads(shown.stdout)]


def test_anonymous_volumes_go_after_a_cancel_and_with_a_killed_agent(tmp_path: Path) -> None:
    volumes = []
    with built("VOLUME /data") as image:
        script = "echo ready; exec sleep 60"
        for end in ("cancel", "kill"):
            api = FakeApi(docker_image=image, command=["sh", "-c", script])
            with running(api, tmp_path / end, DOCKER_JOB_RUNTIME="docker") as agent:
                wait_until_ready(api)
                volumes += volumes_of(agent)
                if end == "cancel":
                    api.change(over=True)
                else:
                    agent.process.kill()
                agent.wait()
                name = f"docker-job-{agent.instance_id}"
                until(partial(is_gone, name), PATIENCE)
    assert len(volumes) == 2
    for each in volumes:
        assert docker("volume", "inspect", each).returncode != 0
