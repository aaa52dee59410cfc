"""The job and the settings, as a claim's answer holds them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from .errors import CouldNotRunError

ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@\[\]-]*")


class Settings(NamedTuple):
    """How to supervise, as the API says with the job; all `_seconds` are seconds."""

    heartbeat_seconds: float = 5.0
    stop_grace_seconds: float = 10.0
    interruption_margin_seconds: float = 30.0
    metadata_poll_seconds: float = 5.0
    log_batch_seconds: float = 1.0
    log_limit_bytes: int = 1024 * 1024
    error_tail_lines: int = 20
    pull_timeout_seconds: float = 3600.0
    pull_silence_seconds: float = 900.0


class Login(NamedTuple):
    """What a registry asks for. Never logged, never an argument."""

    username: str
    password: str


class Job(NamedTuple):
    """What to run."""

    image: str
    command: list[str]
    env: dict[str, str]
    timeout_seconds: float | None
    secrets: dict[str, str] | None = None  # name of a variable -> where its value is kept
    registry_auth: str | None = None
    login: Login | None = None
    gpus: int = 0


def read_claim(answer: object) -> tuple[Job, Settings]:
    """The job and the settings out of a claim's answer; raises CouldNotRunError."""
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
                gpus=int(job.get("gpus") or 0),
            ),
            read_settings(body.get("settings") or {}),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise CouldNotRunError("the agent could not read its job from the API's answer") from None


def read_texts(given: Mapping[str, Any] | None) -> dict[str, str]:
    """An object of texts; absent is empty."""
    return {str(name): str(value) for name, value in (given or {}).items()}


def read_wait(answer: object) -> float:
    """How soon to ask again, as the API says; a second where it does not."""
    try:
        body: Any = answer
        return min(60.0, max(0.05, float(body["retry_seconds"])))
    except (KeyError, TypeError, ValueError):
        return 1.0


def read_settings(given: Mapping[str, Any]) -> Settings:
    """The settings that we know of those given; senseless numbers keep their defaults."""
    known = {
        name: type(default)(given[name])
        for name, default in Settings()._asdict().items()
        if isinstance(given.get(name), (int, float)) and given[name] >= 0
    }
    settings = Settings(**known)
    return settings._replace(  # never a busy loop, whatever is given
        heartbeat_seconds=max(0.05, settings.heartbeat_seconds),
        metadata_poll_seconds=max(0.05, settings.metadata_poll_seconds),
    )


def check_job(job: Job) -> None:
    """Raise CouldNotRunError, naming what is wrong, if the job must not get near a command line."""
    if not IMAGE.fullmatch(job.image):
        raise CouldNotRunError(f"{job.image!r} is not an image reference")
    if any("\0" in part for part in job.command):
        raise CouldNotRunError("the command contains a NUL character")
    for name, value in job.env.items():
        if not ENV_NAME.fullmatch(name):
            raise CouldNotRunError(f"{name!r} does not name an environment variable")
        if "\n" in value or "\0" in value:
            raise CouldNotRunError(f"the value of {name} contains a newline or a NUL character")
