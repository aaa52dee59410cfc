"""`docker compose run --rm api keys …` beside running services: it changes nothing but the keys."""

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
    key = {"Authorization": f"Bearer {made.split()[-1]}"}
    assert project.http.get("/list", headers=key).status_code == 200

    before = state(project)
    listed = project.compose(*KEYS, "list")
    assert "admin" in listed.stdout
    assert "Dockerfile" not in listed.stderr, "an image was built"
    assert state(project) == before


def state(project: ComposeProject) -> dict[str, Any]:
    """Return which containers there are, of which images, and since when they run."""
    found = {service: project.inspect(service) for service in EVERY}
    image = docker("image", "inspect", "--format", "{{.Id}}", found["api"]["Config"]["Image"])
    containers = {
        service: (each["Id"], each["Image"], each["State"]["StartedAt"])
        for service, each in found.items()
    }
    return {"image": image, **containers}
