"""`docker compose` on a fresh clone, under a name and on a port of its own.

A developer's own project is not disturbed: containers, volumes, networks, images and the port bear
other names. What the machine lacks is said in a skip.
"""

import contextlib
import functools
import json
import os
import re
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.run.ports import free_port
from tests.support.run.state import ROOT, Facts, this_run
from tests.support.systems.api_client import ApiClient

BUILT = {"DOCKER_JOB_IMAGE": "docker-job", "DOCKER_JOB_INSTANCE_IMAGE": "docker-job-instance"}
IMAGES = ("python:3.13-slim", "postgres:17", "rabbitmq:4-management")
BUILD_SECONDS = 600.0
UP_SECONDS = 300.0
OURS = ("api", "scheduler", "launcher", "reaper")
SETTINGS = re.compile("DOCKER_JOB_|AWS_|COMPOSE_|POSTGRES_|RABBITMQ_")


def docker(*arguments: str, seconds: float = 60) -> str:
    """Return docker's output. Raises AssertionError if it fails."""
    done = subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, timeout=seconds, check=False
    )
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def succeeds(*arguments: str, seconds: float = 60) -> bool:
    """Return whether docker succeeds."""
    try:
        docker(*arguments, seconds=seconds)
    except (AssertionError, OSError, subprocess.TimeoutExpired):
        return False
    return True


@functools.cache
def what_is_missing() -> str | None:
    """Return why compose cannot be tried on this machine."""
    if shutil.which("docker") is None or not succeeds("version"):
        return "needs a Docker engine that answers"
    if not succeeds("compose", "version"):
        return "needs Docker's compose plugin"
    for image in IMAGES:
        if not succeeds("image", "inspect", image) and not succeeds("pull", image, seconds=300):
            return f"needs the image {image}, which the engine neither has nor can pull"
    return None


def fresh_clone(directory: Path) -> Path:
    """Copy to *directory* the files of a clone of the present state: no more than git tracks."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("needs a git checkout, of which a clone can be made")
    for name in filter(None, done.stdout.split("\0")):
        source = ROOT / name
        if source.exists():  # a deletion may not be committed yet
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, directory / name)
    return directory


class BuiltClone:
    """A clone with its two images, built once for all projects of a test run."""

    def __init__(self, facts: Facts) -> None:
        self.directory = Path(facts["directory"])
        self.images = {name: facts[name] for name in BUILT}

    @classmethod
    def make(cls) -> "BuiltClone":
        """Copy and build. The run's keeper removes it."""
        tag = uuid.uuid4().hex[:8]
        directory = fresh_clone(Path(tempfile.mkdtemp(prefix="clone-")))
        images = {name: f"{image}:test-{tag}" for name, image in BUILT.items()}
        for image in images.values():
            this_run().note("image", image)
        clone = cls({"directory": str(directory), **images})
        project = ComposeProject(clone)
        project.compose("build", "--quiet", seconds=BUILD_SECONDS)
        project.http.close()
        return clone

    @property
    def facts(self) -> Facts:
        """Return the facts from which another worker makes it."""
        return {"directory": str(self.directory), **self.images}


class ComposeProject(ApiClient):
    """One project of that clone; *settings* are DOCKER_JOB_… variables, *files* further files."""

    def __init__(self, clone: BuiltClone, *files: Path, **settings: str) -> None:
        self.name = f"docker-job-test-{uuid.uuid4().hex[:8]}"
        port = free_port()
        super().__init__(f"http://127.0.0.1:{port}")
        self._clone = clone
        this_run().note("project", self.name)
        self._files = [clone.directory / "compose.yaml", *files]
        inherited = {name: each for name, each in os.environ.items() if not SETTINGS.match(name)}
        ours = {f"DOCKER_JOB_{name}": value for name, value in settings.items()}
        self._environ = inherited | clone.images | {"DOCKER_JOB_PORT": str(port)} | ours

    def compose(
        self, *arguments: str, seconds: float = UP_SECONDS, fails: bool = False
    ) -> "subprocess.CompletedProcess[str]":
        """Run `docker compose …`; assert that it succeeds, or that it *fails*."""
        files = [argument for file in self._files for argument in ("--file", str(file))]
        done = subprocess.run(
            ["docker", "compose", "--project-name", self.name, *files, *arguments],
            cwd=self._clone.directory,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert (done.returncode != 0) is fails, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done

    def configure(self, **variables: str) -> None:
        """Set variables of the environment, as `.env` does, for what is run from now on."""
        self._environ |= variables

    def up(self, *arguments: str) -> None:
        """Start it, and wait until healthy. Raises AssertionError with the logs if it is not."""
        try:
            self.compose("up", "--detach", "--wait", *arguments)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.logs()[-6000:]}") from None

    def logs(self, *services: str) -> str:
        """Return the services' logs."""
        return self.compose("logs", "--no-color", *services).stdout

    def container(self, service: str, number: int = 1) -> str:
        """Return the name of a service's container."""
        return f"{self.name}-{service}-{number}"

    def inspect(self, service: str) -> dict[str, Any]:
        """Return the engine's description of a service's container."""
        [found] = json.loads(docker("inspect", self.container(service)))
        assert isinstance(found, dict)
        return found

    def healthy(self, service: str, number: int = 1) -> bool:
        """Return whether its health check passes now."""
        template = "{{.State.Status}} {{.State.Health.Status}}"
        state = docker("inspect", "--format", template, self.container(service, number))
        return state == "running healthy"

    def read_inside(self, service: str, path: str) -> str:
        """Read a file as the service's container sees it."""
        return docker("exec", self.container(service), "cat", path)

    def sql(self, statement: str, seconds: float = 30) -> str:
        """Return Postgres' answer to its superuser: the server itself is not published."""
        psql = ("psql", "-XqtA", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", "docker_job")
        container = self.container("postgres")
        return docker("exec", container, *psql, "-c", statement, seconds=seconds)

    def database_answers(self) -> bool:
        """Return whether Postgres is up, which after a restart takes a while."""
        return succeeds("exec", self.container("postgres"), "pg_isready", "-q", "-U", "postgres")

    def instances(self) -> list[str]:
        """List the containers, ended ones too, of this project's instances and of their jobs."""
        label = f"label=docker-job.deployment={self.name}"
        return docker("ps", "--all", "--quiet", "--filter", label).split()

    def networks(self) -> list[str]:
        """List the networks of this project's jobs."""
        label = f"label=docker-job.deployment={self.name}"
        return docker("network", "ls", "--quiet", "--filter", label).split()

    def close(self) -> None:
        """Leave nothing behind."""
        self.http.close()
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "1")
        left = self.instances()
        if left:
            docker("rm", "--force", "--volumes", *left)
        networks = self.networks()
        if networks:
            docker("network", "rm", *networks)
        # Compose has made an image a project too, labelled with its name.
        label = f"label=com.docker.compose.project={self.name}"
        succeeds("image", "prune", "--force", "--filter", label)
        this_run().forget("project", self.name)


@contextlib.contextmanager
def compose_project(clone: BuiltClone, *files: Path, **settings: str) -> Iterator[ComposeProject]:
    """Make a project that is removed after the block."""
    project = ComposeProject(clone, *files, **settings)
    try:
        yield project
    finally:
        project.close()
