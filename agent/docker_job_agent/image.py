"""An image as its containers run: entrypoint, command, init and stop signal. Pure."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from typing import Any, NamedTuple

from .job import Job

DEFAULT_STOP_SIGNAL = "SIGTERM"

# Programs that are an init themselves. Some refuse to be another process than the first
# ("s6-overlay-suexec: fatal: can only run as pid 1"), and none needs docker's.
INITS = frozenset(
    {
        *("init", "systemd", "runit", "runit-init", "openrc-init", "finit", "s6-svscan"),
        *("tini", "dumb-init", "docker-init", "podman-init", "catatonit"),
        *("my_init", "pid1", "go-init"),
    }
)
SHELLS = frozenset({"sh", "bash", "dash", "ash"})


class Image(NamedTuple):
    """An image's entrypoint, command and STOPSIGNAL; empty for none."""

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    stop_signal: str = ""


def read_image(inspected: object) -> Image:
    """Return the image in an answer to `GET /images/{name}/json`; an empty one if it has none."""
    config = inspected.get("Config") if isinstance(inspected, dict) else None
    found: dict[str, Any] = config if isinstance(config, dict) else {}
    return Image(
        entrypoint=_texts(found.get("Entrypoint")),
        command=_texts(found.get("Cmd")),
        stop_signal=str(found.get("StopSignal") or ""),
    )


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(each) for each in value) if isinstance(value, list) else ()


def wants_init(job: Job, image: Image) -> bool:
    """Return whether docker's init is the first process: as the job says, or by its program.

    Most programs as PID 1 ignore SIGTERM; with an init they get it, and its exit code is theirs.
    """
    if job.init is not None:
        return job.init
    entrypoint, command = image.entrypoint, image.command
    if job.entrypoint is not None:  # it replaces the image's command too
        entrypoint, command = tuple(job.entrypoint), ()
    if job.command:
        command = tuple(job.command)
    return not any(_is_init(each) for each in _programs(entrypoint, command))


def stop_signal_of(job: Job, image: Image) -> str:
    """Return the signal that stops the container: the job's, the image's, or SIGTERM."""
    return job.stop_signal or image.stop_signal or DEFAULT_STOP_SIGNAL


def _is_init(program: str) -> bool:
    name = os.path.basename(program)
    return name in INITS or name.startswith(("tini-", "dumb-init-"))  # as they are downloaded


def _programs(entrypoint: tuple[str, ...], command: tuple[str, ...]) -> Iterator[str]:
    """Yield the programs that may become the first process.

    Most entrypoints that are scripts end with `exec "$@"`; but `init` may be an argument (`git`).
    """
    yield from _started_by(entrypoint or command)
    if entrypoint and command and command[0].startswith("/"):
        yield command[0]


def _started_by(words: tuple[str, ...]) -> Iterator[str]:
    """Yield the program, and the one that it becomes if it is a shell or `env`."""
    program, rest = (words[0], words[1:]) if words else ("", ())
    yield program
    name = os.path.basename(program)
    if name == "env":
        while rest and (rest[0].startswith("-") or "=" in rest[0]):
            rest = rest[1:]
        yield from rest[:1]
    if name in SHELLS and len(rest) >= 2 and rest[0].startswith("-") and rest[0].endswith("c"):
        yield from _run_by_shell(rest[1])


def _run_by_shell(script: str) -> Iterator[str]:
    """Yield the script's first word, which a shell may exec, and those after an `exec`."""
    try:
        words = shlex.split(script)
    except ValueError:
        return
    yield from words[:1]
    yield from (after for word, after in zip(words, words[1:]) if word == "exec")
