"""The job and its settings, read from a claim's answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from .errors import CouldNotRunError

ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
IMAGE = re.compile(r"[A-Za-z0-9\[][A-Za-z0-9._:/@\[\]-]*")


class Settings(NamedTuple):
    """Settings of the supervision, which the API sends with the job."""

    heartbeat_seconds: float = 5.0
    stop_grace_seconds: float = 10.0
    interruption_margin_seconds: float = 30.0
    metadata_poll_seconds: float = 5.0
    log_batch_seconds: float = 1.0
    log_limit_bytes: int = 1024 * 1024
    error_tail_lines: int = 20
    pull_timeout_seconds: float = 3600.0
    pull_silence_seconds: float = 300.0
    pull_retry_seconds: float = 300.0
    registries_refused: tuple[str, ...] = ()  # networks in which no registry may be …
    registries_allowed: tuple[str, ...] = ()  # … but for these hosts and networks
    local_images: bool = True  # use the machine's own image after a failed pull
    host_services: bool = True  # whether a job on a shared engine may reach the host's services
    free_if_interrupted_within_seconds: float = 0.0  # of the claim's answer, by EC2 itself


class Login(NamedTuple):
    """Credentials for a registry. Never logged, never an argument of a command."""

    username: str
    password: str


class Resources(NamedTuple):
    """The resources that the job asked for, 0 if it did not."""

    vcpus: int = 0
    memory_mib: int = 0
    gpus: int = 0


class Job(NamedTuple):
    """The job to run."""

    image: str
    command: list[str]
    env: dict[str, str]
    timeout_seconds: float | None
    secrets: dict[str, str] | None = None  # name of a variable -> SSM name, or ARN, of its value
    registry_auth: str | None = None
    login: Login | None = None
    resources: Resources = Resources()
    fetch_login: Callable[[], Login] | None = None  # of ECR; raises PullFailedError
    entrypoint: list[str] | None = None  # None: the image's own
    user: str | None = None
    working_dir: str | None = None
    shm_size_mib: int = 0  # 0: the engine's default
    init: bool | None = None  # None: it depends on the image
    stop_signal: str | None = None
    read_only: bool = False


def read_claim(answer: object) -> tuple[Job, Settings]:
    """Return the job and the settings in a claim's answer; raises CouldNotRunError."""
    try:
        body: Any = answer
        job = body["job"]
        timeout = job.get("timeout_seconds")
        return (
            Job(
                image=str(job["docker_image"]),
                command=[str(part) for part in job.get("command") or []],
                env={**read_texts(job.get("env_vars")), **read_texts(job.get("secret_env"))},
                timeout_seconds=None if timeout is None else float(timeout),
                secrets=read_texts(job.get("secrets")) or None,
                registry_auth=job.get("registry_auth"),
                resources=read_resources(job),
                entrypoint=read_entrypoint(job.get("entrypoint")),
                user=read_text(job.get("user")),
                working_dir=read_text(job.get("working_dir")),
                shm_size_mib=int(job.get("shm_size_mib") or 0),
                init=None if job.get("init") is None else bool(job["init"]),
                stop_signal=read_text(job.get("stop_signal")),
                read_only=bool(job.get("read_only")),
            ),
            read_settings(body.get("settings") or {}),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise CouldNotRunError("the agent could not read its job from the API's answer") from None


def read_entrypoint(given: list[Any] | None) -> list[str] | None:
    """Return an array of texts; an absent one is None."""
    return None if given is None else [str(part) for part in given]


def read_resources(job: Mapping[str, Any]) -> Resources:
    """Return what the job asked for; APIs of earlier releases send `gpus` alone."""
    given = job.get("resources") or {}
    known = {name: int(given.get(name) or 0) for name in Resources._fields}
    return Resources(**known)._replace(gpus=known["gpus"] or int(job.get("gpus") or 0))


def read_text(given: object) -> str | None:
    """Return a text; an absent or empty one is None."""
    return str(given) if given else None


def read_texts(given: Mapping[str, Any] | None) -> dict[str, str]:
    """Return an object's names and values as text; an absent object is empty."""
    return {str(name): str(value) for name, value in (given or {}).items()}


def read_wait(answer: object) -> float:
    """Return the seconds until the next claim, within bounds; one where the answer has none."""
    try:
        body: Any = answer
        return min(60.0, max(0.05, float(body["retry_seconds"])))
    except (KeyError, TypeError, ValueError):
        return 1.0


def read_free_seconds(answer: object) -> float:
    """Return for how long an interruption by EC2 makes the instance free; 0 without that."""
    try:
        body: Any = answer
        return read_settings(body.get("settings") or {}).free_if_interrupted_within_seconds
    except AttributeError:  # no object
        return 0.0


def read_settings(given: Mapping[str, Any]) -> Settings:
    """Return the known settings among those given; invalid ones keep their defaults."""
    known: dict[str, Any] = {}
    for name, default in Settings()._asdict().items():
        value = given.get(name)
        if isinstance(default, tuple) and isinstance(value, list):
            known[name] = tuple(str(each) for each in value)
        elif isinstance(default, (int, float)) and isinstance(value, (int, float)) and value >= 0:
            known[name] = type(default)(value)
    settings = Settings(**known)
    return settings._replace(  # no busy loop, whatever is given
        heartbeat_seconds=max(0.05, settings.heartbeat_seconds),
        metadata_poll_seconds=max(0.05, settings.metadata_poll_seconds),
    )


def check_job(job: Job) -> None:
    """Refuse a job that no engine could run; raises CouldNotRunError."""
    if not IMAGE.fullmatch(job.image):
        raise CouldNotRunError(f"{job.image!r} is not an image reference")
    if any("\0" in part for part in [*(job.entrypoint or []), *job.command]):
        raise CouldNotRunError("the command contains a NUL character")
    for name, value in job.env.items():
        if not ENV_NAME.fullmatch(name):
            raise CouldNotRunError(f"{name!r} does not name an environment variable")
        if "\0" in value:
            raise CouldNotRunError(f"the value of {name} contains a NUL character")
