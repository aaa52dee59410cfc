"""The container of an instance of the docker adapter."""

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from shared.compute.docker.container import (
    LABEL,
    DockerSettings,
    container_of,
    labels_of,
    parameters_of,
    user_of,
)
from shared.compute.docker.engine import EngineApi
from shared.compute.port import LaunchRequest

REQUEST = LaunchRequest(
    token="token-1",
    deployment="test",
    job_id=1,
    attempt=1,
    max_lifetime_seconds=60,
    labels={"a": "1", "b": "2"},
    api_url="http://api:8000",
    bootstrap_token="a-secret",
)


@pytest.mark.parametrize("host", ["", "ssh://me@there", "tcp://there", "unix://", "/docker.sock"])
def test_a_host_that_cannot_be_spoken_to_is_named(host: str) -> None:
    with pytest.raises(ValueError, match="it must be"):
        EngineApi(host)


def test_an_instance_is_root_only_where_the_socket_is_for_its_owner_alone(tmp_path: Path) -> None:
    socket = tmp_path / "docker.sock"
    socket.touch()
    group = str(socket.stat().st_gid)
    users = []
    for mode in (0o666, 0o660, 0o600):
        socket.chmod(mode)
        users.append(user_of(str(socket)))
    assert users == [("10001:10001", []), ("10001:10001", [group]), ("0:0", [])]


def test_equal_requests_are_one_launch_whatever_the_order_of_labels_and_the_derived_token() -> None:
    other = replace(REQUEST, labels={"b": "2", "a": "1"}, bootstrap_token="another")
    assert parameters_of(REQUEST) == parameters_of(other)
    assert parameters_of(REQUEST) != parameters_of(replace(REQUEST, attempt=2))


def test_the_token_of_the_claim_is_in_the_environment_alone() -> None:
    container = container_of(REQUEST, DockerSettings(), "unix:///s", "/s")
    environment = container.pop("Env")
    assert "DOCKER_JOB_BOOTSTRAP_TOKEN=a-secret" in environment
    assert "a-secret" not in json.dumps(container)


def test_a_job_s_labels_are_not_those_of_its_instance() -> None:
    request = replace(REQUEST, labels={"role": "x", "docker-job.deployment": "other"})
    labels = labels_of(request, DockerSettings())
    assert labels[f"{LABEL}role"] == "instance"
    assert labels[f"{LABEL}deployment"] == "test"
    assert labels == labels_of(REQUEST, DockerSettings()) | {
        f"{LABEL}parameters": parameters_of(request)
    }


def test_a_simulated_instance_does_not_get_the_socket() -> None:
    container = container_of(REQUEST, DockerSettings(runtime="simulated"), "unix:///s", "/s")
    assert container["HostConfig"]["Mounts"] == []
