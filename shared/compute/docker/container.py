"""The container of an instance: its name, labels, limits and environment.

The container runs the agent alone. It uses the engine through its socket, so code that takes over
the agent controls the engine; every other right is taken from the container: a read-only root, no
capabilities, no new privileges, bounds on memory, processes and log. It runs as an unprivileged
user with the group of the socket; as root only where the socket is for its owner alone.

The bootstrap token is in the container's environment, where `docker inspect` shows it: to users of
the socket, who control everything already. The agent removes it from its own environment, and it
is good for one claim.
"""

import hashlib
import re
import stat
from pathlib import Path
from typing import Any, Literal

import msgspec

from shared.compute.port import LaunchRequest
from shared.compute.shared_engine import SharedEngine

LABEL = "docker-job."
INSTANCE_ID = re.compile(r"d-[0-9a-f]{17}")
USER = "10001:10001"
ROOT = "0:0"
SOCKET = "/var/run/docker.sock"

HOME = "/var/lib/docker-job"
STARTED = "started"
# The engine starts an exited container again on request, and a replica that saw it before it ran
# may still request that. A volume outlives the end, and a directory can be made only once: so the
# agent runs once at most. To forbid the start, make the directory first.
ENTRYPOINT = ["sh", "-c", f'mkdir "$0/{STARTED}" && exec "$@"', HOME]
AGENT = ["python3", "-I", "-S", "/app/agent/docker_job_agent.pyz"]


class DockerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Image, network, price and bounds of instances; durations in seconds."""

    image: str = "docker-job-instance:local"
    """The Dockerfile's target `instance`. It is never pulled: an absent one is a refusal."""
    network: str = "bridge"
    """The engine's network on which instances reach the API; "host" is the machine's own."""
    socket: str = SOCKET
    """Path of the engine's socket on the engine's machine, to be mounted into instances."""
    runtime: Literal["docker", "simulated"] = "docker"
    metadata_url: str | None = None
    """The agent's source of Spot notices; None: no source."""
    hourly_price_usd: float = 0.0
    memory_bytes: int = 256 * 1024 * 1024
    """For the agent and up to three Docker clients; a job's container is not in it."""
    pids: int = 512
    terminate_grace_seconds: float = 10.0
    """The container's time after our SIGTERM. We send SIGKILL 5 s after that."""
    retention_seconds: float = 15.0
    """Time that an instance is shown as terminated before its container is removed: three of the
    reaper's sweeps, and after 20 s `docker ps -a` shows nothing of the job."""
    shared_engine: SharedEngine = SharedEngine()
    api_ca: str = ""
    """PEM of the authority by which agents verify the API; empty: their system's."""


def instance_id_of(deployment: str, token: str) -> str:
    """Derive the instance id from the deployment and the launch token."""
    digest = hashlib.sha256(f"{deployment}\0{token}".encode()).hexdigest()
    return f"d-{digest[:17]}"


def container_name(instance_id: str) -> str:
    """Return the name of an instance's container; the engine has only one of each name."""
    return f"docker-job-instance-{instance_id.removeprefix('d-')}"


def parameters_of(request: LaunchRequest) -> str:
    """Hash the parameters that two equal launches have in common: all but the derived token."""
    stored = msgspec.structs.replace(request, bootstrap_token="")
    return hashlib.sha256(msgspec.json.encode(stored, order="sorted")).hexdigest()


def labels_of(request: LaunchRequest, settings: DockerSettings) -> dict[str, str]:
    """Build the labels: all about the instance, so that a list of containers shows it."""
    found = {
        "role": "instance",
        "deployment": request.deployment,
        "job": str(request.job_id),
        "attempt": str(request.attempt),
        "instance": instance_id_of(request.deployment, request.token),
        "launch-token": request.token,
        "parameters": parameters_of(request),
        "hourly-price-usd": f"{settings.hourly_price_usd:g}",
    }
    return {LABEL + name: value for name, value in found.items()}


def user_of(socket: str | None) -> tuple[str, list[str]]:
    """Return the user and the extra groups that may use the engine's *socket*."""
    try:
        found = Path(socket).stat() if socket else None
    except OSError:  # then there is no engine either, and the next call fails
        found = None
    if found is None or _allows(found.st_mode, stat.S_IROTH | stat.S_IWOTH):
        return USER, []
    if _allows(found.st_mode, stat.S_IRGRP | stat.S_IWGRP):
        return USER, [str(found.st_gid)]
    return ROOT, []


def _allows(mode: int, wanted: int) -> bool:
    return mode & wanted == wanted


def container_of(
    request: LaunchRequest, settings: DockerSettings, host: str, socket: str | None
) -> dict[str, Any]:
    """Build the body of the engine's create call for this launch.

    *host* is the engine's address and *socket* our path to its socket, None over TCP.
    """
    user, groups = user_of(socket)
    return {
        "Image": settings.image,
        "Entrypoint": ENTRYPOINT,
        "Cmd": AGENT,
        "User": user,
        "Env": [f"{name}={value}" for name, value in _environment(request, settings).items()]
        + ([] if socket else [f"DOCKER_HOST={host}"]),
        "Labels": labels_of(request, settings),
        "Volumes": {HOME: {}},
        "HostConfig": {
            "NetworkMode": settings.network,
            "Init": True,  # reaps what the Docker clients leave, and forwards SIGTERM
            "ReadonlyRootfs": True,
            # The env file of a job is here for a short time: in memory, never on a disk.
            "Tmpfs": {"/tmp": "rw,noexec,nosuid,nodev,size=64m,mode=1777"},  # noqa: S108
            "Mounts": _mounts(settings) if socket else [],
            "GroupAdd": groups,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "Memory": settings.memory_bytes,
            "PidsLimit": settings.pids,
            "RestartPolicy": {"Name": "no"},
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "1"}},
        },
    }


def _mounts(settings: DockerSettings) -> list[dict[str, Any]]:
    if settings.runtime != "docker":
        return []
    # Not a "bind" string, for which the engine would make a directory where no socket is.
    return [{"Type": "bind", "Source": settings.socket, "Target": SOCKET}]


def _environment(request: LaunchRequest, settings: DockerSettings) -> dict[str, str]:
    environment = settings.shared_engine.environment() | {
        "DOCKER_JOB_API_URL": request.api_url,
        "DOCKER_JOB_JOB_ID": str(request.job_id),
        "DOCKER_JOB_ATTEMPT": str(request.attempt),
        "DOCKER_JOB_INSTANCE_ID": instance_id_of(request.deployment, request.token),
        "DOCKER_JOB_BOOTSTRAP_TOKEN": request.bootstrap_token,
        "DOCKER_JOB_MAX_LIFETIME_SECONDS": str(request.max_lifetime_seconds),
        "DOCKER_JOB_RUNTIME": settings.runtime,
        "DOCKER_JOB_POWER_OFF": "exit",
        "DOCKER_JOB_ENGINE_DISK": "/",  # its root is on the disk of the images
        "DOCKER_JOB_DEPLOYMENT": request.deployment,
        "DOCKER_JOB_TERMINATE_GRACE_SECONDS": f"{settings.terminate_grace_seconds:g}",
    }
    if settings.api_ca:
        environment["DOCKER_JOB_API_CA"] = settings.api_ca
    if settings.metadata_url:
        environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = settings.metadata_url
    return environment
