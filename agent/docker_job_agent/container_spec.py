"""The container that a job asks for: the body of the engine's create call. Pure."""

from __future__ import annotations

from typing import Any

from .environment import Config
from .job import Job
from .network import isolation, job_name

PIDS_LIMIT = 4096


def container_name(config: Config) -> str:
    """Return the container's name: the instance's id, in the characters that docker allows."""
    return job_name(config.instance_id)


def container_spec(config: Config, job: Job) -> dict[str, Any]:
    """Return the body of `POST /containers/create`.

    https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/ContainerCreate
    """
    spec: dict[str, Any] = {
        "Image": job.image,
        "Env": [f"{name}={value}" for name, value in job.env.items()],
        "Labels": labels(config),
        "HostConfig": {**host_config(job), **isolation(config)},
    }
    if job.entrypoint is not None:
        # One empty text means none; an empty array would mean the image's.
        spec["Entrypoint"] = job.entrypoint or [""]
    if job.command:
        spec["Cmd"] = job.command
    return spec


def labels(config: Config) -> dict[str, str]:
    """Return the labels by which containers of an instance are found."""
    return {
        "docker-job.deployment": config.deployment,
        "docker-job.job": str(config.job_id),
        "docker-job.attempt": str(config.attempt),
        "docker-job.instance": config.instance_id,
    }


def host_config(job: Job) -> dict[str, Any]:
    """Return the limits and rights of the container."""
    found: dict[str, Any] = {
        # Most programs as PID 1 ignore SIGTERM; with an init they get it, and its exit code is
        # theirs.
        "Init": True,
        "SecurityOpt": ["no-new-privileges"],
        "PidsLimit": PIDS_LIMIT,
        # The lines go to the API; a second copy on the instance's disk could fill it.
        "LogConfig": {"Type": "none"},
    }
    if job.gpus:
        # As many as the job asked for: the machine may have more, for other jobs.
        found["DeviceRequests"] = [{"Count": job.gpus, "Capabilities": [["gpu"]]}]
    return found


def would_run(config: Config, job: Job) -> list[str]:
    """Return the command that would have run the container, with names of variables only."""
    command = ["docker", "run", "--name", container_name(config)]
    if job.gpus:
        command += ["--gpus", str(job.gpus)]
    entrypoint = job.entrypoint
    if entrypoint is not None:
        command += ["--entrypoint", "".join(entrypoint[:1])]
    command += [part for name in job.env for part in ("--env", name)]
    return [*command, job.image, *(entrypoint or [])[1:], *job.command]
