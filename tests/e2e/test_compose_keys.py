"""`docker compose run --rm api keys …` beside running services: it changes nothing but the keys."""

import json
import socket
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.run.state import this_run
from tests.support.systems.compose_project import (
    OURS,
    BuiltClone,
    ComposeProject,
    compose_project,
    docker,
)
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(900)  # the images are built by the first test that wants them

EVERY = (*OURS, "postgres", "rabbitmq", "migrate", "instance-image")
HEALTHY_SECONDS = 240
IMAGE = "debian:trixie-slim"
KEYS = ("--progress", "plain", "run", "--rm", "api", "keys")


@pytest.fixture
def project(clone: BuiltClone) -> Iterator[ComposeProject]:
    """Make a project with an image of its own name: another one's `up` would replace it."""
    image = f"docker-job:test-{uuid.uuid4().hex[:8]}"
    this_run().note("image", image)
    with compose_project(clone, IMAGE=image) as project:
        yield project


def test_a_key_is_made_right_after_up_and_later_without_a_build_a_migration_or_a_restart(
    project: ComposeProject,
) -> None:
    project.compose("up", "--detach")
    made = project.compose(*KEYS, "create", "--name", "me", "--scope", "admin").stdout
    until(lambda: all(project.healthy(service) for service in OURS), HEALTHY_SECONDS)
    [line] = made.splitlines()  # the key alone: the start script on AWS keeps it as it is
    key = {"Authorization": f"Bearer {line}"}
    assert project.http.get("/list", headers=key).status_code == 200

    before = state(project)
    listed = project.compose(*KEYS, "list")
    assert "admin" in listed.stdout
    assert "Dockerfile" not in listed.stderr, "an image was built"
    assert state(project) == before
    for_others_too(project, key)


def for_others_too(project: ComposeProject, key: dict[str, str]) -> None:
    """Check that a job reaches no service of the host any more, and leaves no network."""
    image = project.inspect("instance-image")["Config"]["Image"]
    table = ("nft", "list", "table", "inet", "docker_job")
    host = ("--network", "host", "--user", "0", "--cap-add", "NET_ADMIN", "--entrypoint", table[0])
    assert 'iifname "djk*"' in docker("run", "--rm", *host, image, *table[1:])
    assert "the packet filter cannot be installed" not in project.logs("launcher")

    with socket.create_server(("0.0.0.0", 0)) as listener:
        command = command_for(listener)
        # A container that is no job's shows that the host itself closes nothing.
        assert docker("run", "--rm", IMAGE, *command) == "open"
        asked = json.dumps({"docker_image": IMAGE, "scheduled_for": "now", "command": command})
        answer = project.http.post("/schedule", content=asked, headers=key)
        job = answer.json()["id"]

        def over() -> bool:
            shown = project.http.get(f"/status/{job}", headers=key).json()
            return shown["status"] in ("DONE", "FAILED")

        until(over, 60)
    assert project.http.get(f"/jobs/{job}/logs", headers=key).text.split() == ["closed"]
    until(lambda: not project.networks())


def command_for(listener: socket.socket) -> list[str]:
    """Return the command that tries to reach it on the host's end of the job's network."""
    port = listener.getsockname()[1]
    gateway = "$(awk '$2 == \"00000000\" {print $3}' /proc/net/route | sed 's/../0x& /g')"
    script = (
        f"set -- {gateway}; host=$(printf '%d.%d.%d.%d' $4 $3 $2 $1); "
        f'timeout 2 bash -c ": < /dev/tcp/$host/{port}" && echo open || echo closed'
    )
    return ["bash", "-c", script]


def state(project: ComposeProject) -> dict[str, Any]:
    """Return which containers there are, of which images, and since when they run."""
    found = {service: project.inspect(service) for service in EVERY}
    image = docker("image", "inspect", "--format", "{{.Id}}", found["api"]["Config"]["Image"])
    containers = {
        service: (each["Id"], each["Image"], each["State"]["StartedAt"])
        for service, each in found.items()
    }
    return {"image": image, **containers}
