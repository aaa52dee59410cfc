"""Jobs on an engine that others use too: each has a network of its own and few rights.

Real containers, where a Docker engine answers and has the images.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.docker_job_agent.environment import Config, SharedEngine
from agent.docker_job_agent.job import Settings
from agent.docker_job_agent.network import JobNetwork
from tests.integration.test_agent import AgentProcess, FakeApi, running
from tests.integration.test_agent_docker import (
    PYTHON_IMAGE,
    SHELL_IMAGE,
    STUBBORN,
    docker,
    running_docker,
)
from tests.support.waiting import until

# A page of its own in the pool, so that no other test's networks are in the way.
POOL = "10.214.0.0/18"
CONNECT = ("python", "-c", "import socket, sys; socket.create_connection(sys.argv[1:], 3)")


@pytest.fixture(scope="module", autouse=True)
def _engine() -> None:
    for image in (SHELL_IMAGE, PYTHON_IMAGE):
        if docker("image", "inspect", image).returncode != 0:
            pytest.skip(f"no Docker engine answers, or it has no {image}")


def networks_of(instance_id: str) -> list[str]:
    listed = docker("network", "ls", "-q", "--filter", f"label=docker-job.instance={instance_id}")
    return listed.stdout.split()


@contextmanager
def running_shared(api: FakeApi, directory: Path, **env: str) -> Iterator[AgentProcess]:
    """Run an agent; it must leave neither a container nor a network behind."""
    with running_docker(api, directory, DOCKER_JOB_NETWORK_POOL=POOL, **env) as agent:
        yield agent
    assert networks_of(agent.instance_id) == []


def job_networks(count: int) -> list[JobNetwork]:
    configs = [
        Config(
            api_url="",
            job_id=number,
            attempt=1,
            instance_id=f"test-{os.getpid()}-{number}",
            deployment="test",
            runtime="docker",
            metadata_url=None,
            terminate_grace_seconds=1,
            shared_engine=SharedEngine(network_pool=POOL),
        )
        for number in range(count)
    ]
    return [JobNetwork(each, Settings()) for each in configs]


def test_a_job_has_a_network_of_its_own_and_names_resolve_in_it(tmp_path: Path) -> None:
    script = "cat /etc/resolv.conf; getent hosts $(hostname); echo ready; sleep 60"
    api = FakeApi(docker_image=SHELL_IMAGE, command=["sh", "-c", script])
    with running_shared(api, tmp_path / "i") as agent:
        api.wait_for(lambda: "ready" in api.lines("stdout"))
        [network] = networks_of(agent.instance_id)
        [shown] = json.loads(docker("network", "inspect", network).stdout)
        seen = json.loads(docker("inspect", f"docker-job-{agent.instance_id}").stdout)
        api.change(over=True)
        assert agent.wait() == 0

    assert shown["IPAM"]["Config"][0]["Subnet"].startswith("10.214.")
    assert shown["Options"]["com.docker.network.bridge.name"].startswith("dj")
    assert not shown["Options"]["com.docker.network.bridge.name"].startswith("djk")
    assert list(seen[0]["NetworkSettings"]["Networks"]) == [f"docker-job-{agent.instance_id}"]
    assert "nameserver 127.0.0.11" in api.lines("stdout")


def test_the_services_of_the_host_are_closed_to_a_job_where_the_api_says_so(
    tmp_path: Path,
) -> None:
    api = FakeApi(docker_image=SHELL_IMAGE, command=["sleep", "60"])
    api.settings["host_services"] = False
    with running_shared(api, tmp_path / "i") as agent:
        api.wait_for(lambda: "running" in api.phases)
        [network] = networks_of(agent.instance_id)
        [shown] = json.loads(docker("network", "inspect", network).stdout)
        api.change(over=True)
        assert agent.wait() == 0

    assert shown["Options"]["com.docker.network.bridge.name"].startswith("djk")


def test_a_job_does_not_reach_another_one(tmp_path: Path) -> None:
    serve = "hostname -i; exec python -m http.server 8000"
    other = FakeApi(docker_image=PYTHON_IMAGE, command=["sh", "-c", serve])
    with running_shared(other, tmp_path / "a") as first:
        other.wait_for(lambda: other.lines("stdout"))
        address = other.lines("stdout")[0]
        command = [*CONNECT, address, "8000"]
        name = f"docker-job-{first.instance_id}"
        until(lambda: docker("exec", name, *command).returncode == 0)
        api = FakeApi(docker_image=PYTHON_IMAGE, command=command)
        (tmp_path / "second").mkdir()
        with running_shared(api, tmp_path / "second" / "b") as agent:
            assert agent.wait() == 0
        other.change(over=True)
        assert first.wait() == 0

    assert api.callbacks[0]["exit_code"] == 1
    assert "timed out" in api.callbacks[0]["error_message"]


def test_a_job_loses_the_rights_that_only_attacks_use_and_may_step_down(tmp_path: Path) -> None:
    script = (
        "import os, socket\n"
        "def refused(act):\n"
        "    try: act()\n"
        "    except PermissionError: return True\n"
        "print(os.getuid(), refused(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)),\n"
        "    refused(lambda: os.mknod('/tmp/disk', 0o60600, os.makedev(8, 0))))\n"
        "open('/srv/file', 'w').close(); os.chown('/srv/file', 1000, 1000)\n"
        "os.setgroups([]); os.setgid(1000); os.setuid(1000)\n"
        "print(os.getuid(), refused(lambda: open('/etc/shadow')))\n"
    )
    api = FakeApi(docker_image=PYTHON_IMAGE, command=["python", "-c", script])
    with running_shared(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    assert api.lines("stdout") == ["0 True True", "1000 True"]


def test_the_network_of_a_killed_agent_goes_with_its_container(tmp_path: Path) -> None:
    api = FakeApi(docker_image=SHELL_IMAGE, command=STUBBORN)
    env = {"DOCKER_JOB_RUNTIME": "docker", "DOCKER_JOB_NETWORK_POOL": POOL}
    with running(api, tmp_path / "i", **env) as agent:
        api.wait_for(lambda: "ready" in api.lines("stdout"))
        assert len(networks_of(agent.instance_id)) == 1
        agent.process.send_signal(signal.SIGKILL)
        agent.wait()
        until(lambda: networks_of(agent.instance_id) == [])


def test_more_jobs_at_once_than_dockers_own_pools_have_networks() -> None:
    networks = job_networks(60)
    labels = {"docker-job.test": str(os.getpid())}
    with ThreadPoolExecutor(8) as threads:
        try:
            list(threads.map(lambda each: each.create(labels), networks))
            listed = docker(
                "network", "ls", "-q", "--filter", f"label=docker-job.test={os.getpid()}"
            )
            assert len(listed.stdout.split()) == 60
        finally:
            list(threads.map(JobNetwork.remove, networks))
    assert docker("network", "ls", "-q", "--filter", "label=docker-job.test").stdout == ""


def test_a_network_that_cannot_be_created_fails_the_job_in_the_engines_words(
    tmp_path: Path,
) -> None:
    api = FakeApi(docker_image=SHELL_IMAGE, command=["true"])
    taken, name = "10.214.64.0/26", f"docker-job-test-{os.getpid()}"
    assert docker("network", "create", "--subnet", taken, name).returncode == 0
    try:
        with running_docker(api, tmp_path / "i", DOCKER_JOB_NETWORK_POOL=taken) as agent:
            assert agent.wait() == 0
    finally:
        docker("network", "rm", name)

    [callback] = api.callbacks
    assert callback["error_message"].startswith("the job's network was not created: ")
    assert "overlaps" in callback["error_message"]
    assert "exit_code" not in callback
