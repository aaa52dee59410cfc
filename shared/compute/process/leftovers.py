"""The containers and networks that agents have left on this machine's engine, by its own client.

They carry the labels `docker-job.deployment`, `.job`, `.attempt` and `.instance`. The client
is used and not the socket, because it knows contexts, DOCKER_HOST, TLS and rootless engines.
Everything here blocks for as long as the engine takes, 20 s at most: call it in a thread.
"""

import shutil
import subprocess
from collections import defaultdict
from collections.abc import Collection, Sequence

INSTANCE_LABEL = "docker-job.instance"
ANSWER_SECONDS = 5.0
WORK_SECONDS = 20.0


class ContainerEngine:
    """The local engine's containers and networks of our instances, and their removal."""

    def __init__(self, client: str = "docker") -> None:
        self._client = client

    def answers(self) -> bool:
        """Return True if there is a client and an engine answers it now."""
        if shutil.which(self._client) is None:
            return False
        return self._ask(("version", "--format", "{{.Server.Version}}"), ANSWER_SECONDS) is not None

    def by_instance(self) -> dict[str, list[str]] | None:
        """List the ids of all containers, running or not, by instance; None: no answer."""
        template = f'{{{{.ID}}}} {{{{.Label "{INSTANCE_LABEL}"}}}}'
        arguments = ("ps", "--all", "--no-trunc", "--filter", f"label={INSTANCE_LABEL}")
        answer = self._ask((*arguments, "--format", template), WORK_SECONDS)
        if answer is None:
            return None
        found: defaultdict[str, list[str]] = defaultdict(list)
        for line in answer.splitlines():
            container_id, _, instance_id = line.partition(" ")
            found[instance_id].append(container_id)
        return dict(found)

    def remove_networks(self, instance_ids: Collection[str]) -> None:
        """Remove these instances' networks; one that a container is on stays."""
        template = f'{{{{.ID}}}} {{{{.Label "{INSTANCE_LABEL}"}}}}'
        arguments = ("network", "ls", "--no-trunc", "--filter", f"label={INSTANCE_LABEL}")
        answer = self._ask((*arguments, "--format", template), ANSWER_SECONDS) or ""
        listed = (line.partition(" ") for line in answer.splitlines())
        ids = [network_id for network_id, _, instance_id in listed if instance_id in instance_ids]
        if ids:
            self._ask(("network", "rm", *ids), WORK_SECONDS)

    def remove(self, container_ids: Sequence[str]) -> None:
        """Kill and remove them; `by_instance` shows the outcome."""
        if container_ids:
            self._ask(("rm", "--force", "--volumes", *container_ids), WORK_SECONDS)

    def _ask(self, arguments: Sequence[str], seconds: float) -> str | None:
        try:
            done = subprocess.run(
                (self._client, *arguments),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=seconds,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.decode(errors="replace") if done.returncode == 0 else None
