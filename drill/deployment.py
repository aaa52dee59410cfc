"""A deployment of `compose.yaml` under a name of its own, of which nothing is left afterwards.

Its instances are containers of this machine's engine, each with the real agent, and the job's own
container in it is simulated: fifty of them fit on two cores.
"""

import os
import re
import socket
import uuid
from collections.abc import Sequence
from pathlib import Path

from drill.docker import CommandFailed, docker, lines_of

ROOT = Path(__file__).resolve().parent.parent
SERVICES = ("api", "scheduler", "launcher", "reaper")
UP_SECONDS = 900.0
DOWN_SECONDS = 180.0
OURS = re.compile(r"DOCKER_JOB_|AWS_|COMPOSE_")
KEPT = {"DOCKER_JOB_ENGINE_SOCKET"}
"""The settings of the operator's environment that also hold here: where the engine is."""


def new_name() -> str:
    """Return a name that no other deployment on this engine has."""
    return f"docker-job-drill-{uuid.uuid4().hex[:8]}"


class Deployment:
    """One compose project, its containers and its instances."""

    def __init__(self, name: str, settings: dict[str, str]) -> None:
        self.name = name
        port = _free_port()
        self.address = f"http://127.0.0.1:{port}"
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name in KEPT or not OURS.match(name)
        }
        self._images = {
            "DOCKER_JOB_IMAGE": f"docker-job:{name}",
            "DOCKER_JOB_INSTANCE_IMAGE": f"docker-job-instance:{name}",
        }
        ours = {
            "PORT": str(port),
            "DEPLOYMENT": name,
            "COMPUTE_URL": "docker://",
            "RUNTIME": "simulated",
            **settings,
        }
        self._environment = (
            inherited | self._images | {f"DOCKER_JOB_{key}": value for key, value in ours.items()}
        )

    def compose(self, *arguments: str, seconds: float = UP_SECONDS) -> str:
        """Run `docker compose …` for this project. The operator's `.env` has no effect."""
        return docker(
            *("compose", "--env-file", os.devnull, "--project-name", self.name),
            *("--file", str(ROOT / "compose.yaml"), *arguments),
            seconds=seconds,
            environment=self._environment,
            directory=ROOT,
        )

    def up(self) -> None:
        """Build and start all of it; return when it is healthy."""
        self.compose("up", "--detach", "--wait")

    def repair(self) -> None:
        """Run `docker compose up -d`, which also migrates, as the documentation says."""
        self.compose("up", "--detach")

    def container(self, service: str) -> str:
        """Return the name of a service's container."""
        return f"{self.name}-{service}-1"

    def kill(self, service: str) -> None:
        """Kill a service's container, which the engine then does not start again."""
        docker("kill", self.container(service))

    def start(self, service: str) -> None:
        """Start a service's container that was killed."""
        docker("start", self.container(service))

    def execute(self, service: str, *command: str, options: Sequence[str] = ()) -> str:
        """Run a command in a service's container; return its output."""
        return docker("exec", *options, self.container(service), *command).strip()

    def sql(self, statement: str, *, writes: bool = False) -> str:
        """Run a statement as Postgres's superuser; *writes*: also while it is read-only."""
        options = ("--env", "PGOPTIONS=-c default_transaction_read_only=off") if writes else ()
        psql = ("psql", "-XqtA", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", "docker_job")
        return self.execute("postgres", *psql, "-c", statement, options=options)

    def instances(self, *, running: bool) -> list[str]:
        """List the containers of instances and of their jobs, the ended ones too if not running."""
        label = f"label=docker-job.deployment={self.name}"
        every = () if running else ("--all",)
        return lines_of("ps", *every, "--quiet", "--no-trunc", "--filter", label)

    def save_logs(self, file: Path) -> None:
        """Write the services' logs to *file*."""
        file.write_text(self.compose("logs", "--no-color", "--timestamps", seconds=DOWN_SECONDS))

    def remove(self, *, images: bool) -> list[str]:
        """Remove all of it; return what could not be removed."""
        left: list[str] = []
        # The services first, which would launch more; their networks only after the instances.
        for step in (self._down, self._remove_instances, self._down):
            try:
                step()
            except CommandFailed as error:
                left.append(str(error))
        for image in self._images.values() if images else ():
            try:
                docker("image", "rm", "--force", image)
            except CommandFailed as error:
                if "No such image" not in str(error):
                    left.append(str(error))
        return left

    def _down(self) -> None:
        down = ("down", "--volumes", "--remove-orphans", "--timeout", "1")
        self.compose(*down, seconds=DOWN_SECONDS)

    def _remove_instances(self) -> None:
        instances = self.instances(running=False)
        if instances:
            docker("rm", "--force", "--volumes", *instances, seconds=DOWN_SECONDS)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
