"""The container that a job asks for: the body of the engine's create call. Pure."""

from __future__ import annotations

import math
from typing import Any

from .environment import Config
from .image import Image, wants_init
from .job import Job, Resources, Settings
from .machine import MIB, Limits
from .network import isolation, job_name
from .oom import CONTAINER_SCORE

PIDS_LIMIT = 4096
DEFAULTS = Settings()
PLAIN_IMAGE = Image()
NO_LIMITS = Limits()


def container_name(config: Config) -> str:
    """Return the container's name: the instance's id, in the characters that docker allows."""
    return job_name(config.instance_id)


def container_spec(
    config: Config,
    job: Job,
    settings: Settings = DEFAULTS,
    image: Image = PLAIN_IMAGE,
    limits: Limits = NO_LIMITS,
) -> dict[str, Any]:
    """Return the body of `POST /containers/create`.

    https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/ContainerCreate
    """
    spec: dict[str, Any] = {
        "Image": job.image,
        "Env": [f"{name}={value}" for name, value in job.env.items()],
        "Labels": labels(config),
        # For whoever else stops it: an engine that shuts down, an operator.
        "StopTimeout": math.ceil(settings.stop_grace_seconds),
        "HostConfig": {
            **host_config(job),
            **limits.host_config(),
            **isolation(config),
            "Init": wants_init(job, image),
        },
    }
    if job.entrypoint is not None:
        # One empty text means none; an empty array would mean the image's.
        spec["Entrypoint"] = job.entrypoint or [""]
    if job.command:
        spec["Cmd"] = job.command
    if job.stop_signal:
        spec["StopSignal"] = job.stop_signal
    if job.user:
        spec["User"] = job.user
    if job.working_dir:
        spec["WorkingDir"] = job.working_dir
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
        "SecurityOpt": ["no-new-privileges"],
        "PidsLimit": PIDS_LIMIT,
        # The lines go to the API; a second copy on the instance's disk could fill it.
        "LogConfig": {"Type": "none"},
        "OomScoreAdj": CONTAINER_SCORE,
    }
    if job.shm_size_mib:
        found["ShmSize"] = job.shm_size_mib * MIB
    if job.read_only:
        # Few programs work without a /tmp; the engine's default for it would be noexec.
        found["ReadonlyRootfs"] = True
        found["Tmpfs"] = {"/tmp": "exec,mode=1777"}  # noqa: S108 - in the container
    return found


def explain_gpus(job: Job, message: str) -> str:
    """Add to the engine's *message* what it means if the machine lacks the GPUs."""
    if job.resources.gpus and "could not select device driver" in message:
        lack = "the engine of this machine has no NVIDIA Container Toolkit"
    elif job.resources.gpus and "nvidia-container" in message:  # the toolkit's own words
        lack = "this machine does not have them"
    else:
        return message
    return f"resources.gpus asks for {job.resources.gpus}, and {lack}: {message}"


def would_run(config: Config, job: Job) -> list[str]:
    """Return the command that would have run the container, with names of variables only."""
    command = ["docker", "run", "--name", container_name(config)]
    if job.resources.gpus:
        command += ["--gpus", str(job.resources.gpus)]
    command += _flags(config, job)
    entrypoint = job.entrypoint
    if entrypoint is not None:
        command += ["--entrypoint", "".join(entrypoint[:1])]
    command += [part for name in job.env for part in ("--env", name)]
    return [*command, job.image, *(entrypoint or [])[1:], *job.command]


def _flags(config: Config, job: Job) -> list[str]:
    """Return what else the job asks for, as options of `docker run`."""
    asked = Resources() if config.owns_machine else job.resources
    options = {
        "--memory": asked.memory_mib and f"{asked.memory_mib}m",
        "--cpus": asked.vcpus,
        "--user": job.user,
        "--workdir": job.working_dir,
        "--shm-size": job.shm_size_mib and f"{job.shm_size_mib}m",
        "--stop-signal": job.stop_signal,
    }
    flags = [part for name, value in options.items() if value for part in (name, str(value))]
    if job.init is not None:
        flags.append("--init" if job.init else "--init=false")
    return [*flags, "--read-only"] if job.read_only else flags
