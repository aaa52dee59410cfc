"""The job as its agent gets it. Pure."""

from dataclasses import asdict
from typing import Any

from services.api.agents.settings import AgentsConfig
from services.api.jobs.model import Attempt, Job
from services.api.jobs.own_variables import own_variables, without_own
from shared.events.requirements import Resources

CONTAINER_FIELDS = ("user", "working_dir", "shm_size_mib", "init", "stop_signal")
"""Fields that go to the agent as they are; `stop_grace_seconds` is one of its settings."""


def assignment_of(
    job: Job, attempt: Attempt, secret_env: dict[str, str], config: AgentsConfig
) -> dict[str, Any]:
    """Render the job for its agent: the only response that contains secrets."""
    given: dict[str, Any] = {
        "id": job.id,
        "docker_image": job.docker_image,
        "command": job.command,
        "env_vars": {**without_own(job.env_vars), **own_variables(job, attempt)},
        "timeout_seconds": job.timeout_seconds,
    }
    given |= {"entrypoint": job.entrypoint} if job.entrypoint is not None else {}
    given |= {"resources": asked} if (asked := _of_the_container(job.resources)) else {}
    given |= {"gpus": job.resources.gpus} if job.resources.gpus else {}  # for older agents
    for name, each in (("secret_env", secret_env), ("secrets", job.secrets)):
        given |= {name: others} if (others := without_own(each)) else {}
    given |= {"registry_auth": job.registry_auth} if job.registry_auth else {}
    given |= {name: value for name in CONTAINER_FIELDS if (value := getattr(job, name)) is not None}
    given |= {"read_only": True} if job.read_only else {}
    return {
        "job": given,
        "attempt": attempt.number,
        "instance_id": attempt.instance_id,
        "settings": asdict(config.agent.of_job(job)),
    }


def _of_the_container(resources: Resources) -> dict[str, int]:
    """Return those of the instance's resources that bound the container."""
    asked = {name: getattr(resources, name) for name in ("vcpus", "memory_mib", "gpus")}
    return {name: value for name, value in asked.items() if value is not None}
