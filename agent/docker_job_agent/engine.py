"""The container engine: short commands through Docker's own client, and what they are made of."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from typing import NamedTuple

from .environment import Config, environment_for_children
from .errors import MAX_ERROR_CHARACTERS, CouldNotRunError

ENGINE_PROBE_SECONDS = 3.0  # how long `auto` waits for a Docker engine to answer
ENGINE_CALL_SECONDS = 15.0  # one short docker command
PIDS_LIMIT = 4096

# docker reads env files with Go's bufio.Scanner, whose lines end at 64 KiB
# (docker/cli, pkg/kvfile; tried on 28.2: 70,000 bytes give "token too long").
MAX_ENV_LINE_BYTES = 65_000


def render_env_file(env: Mapping[str, str]) -> bytes:
    r"""Return the content of an env file from which docker takes every value verbatim.

    docker takes all after the first `=` as it is: quotes, `#`, spaces and backslashes mean nothing.
    But its line reader drops one `\r` before the newline, so a value that ends in `\r` gets another
    one; and a name without `=` would mean "take it from the client's environment", so every name
    has its `=`. Raises CouldNotRunError for a value that docker does not take.
    """
    lines = []
    for name, value in env.items():
        try:
            line = f"{name}={value}".encode()
        except UnicodeEncodeError:
            raise CouldNotRunError(f"the value of {name} is not valid Unicode") from None
        if len(line) > MAX_ENV_LINE_BYTES:
            raise CouldNotRunError(f"the value of {name} is longer than {MAX_ENV_LINE_BYTES} bytes")
        lines.append(line + (b"\r\n" if line.endswith(b"\r") else b"\n"))
    return b"".join(lines)


def container_name(config: Config) -> str:
    """Return the container's name: the instance's id, in the characters that docker allows."""
    return "docker-job-" + re.sub(r"[^A-Za-z0-9_.-]", "-", config.instance_id)


def container_options(config: Config, gpus: int = 0) -> list[str]:
    """Return the options of `docker create`, without the environment."""
    labels = {
        "deployment": config.deployment,
        "job": config.job_id,
        "attempt": config.attempt,
        "instance": config.instance_id,
    }
    options = ["--name", container_name(config)]
    for name, value in labels.items():
        options += ["--label", f"docker-job.{name}={value}"]
    # --init: most programs as PID 1 ignore SIGTERM; with an init they get it, and its exit code is
    # theirs.
    options += ["--init", "--security-opt", "no-new-privileges", "--pids-limit", str(PIDS_LIMIT)]
    if gpus:
        # As many as the job asked for: the machine may have more, for other jobs.
        # https://docs.docker.com/reference/cli/docker/container/run/#gpus
        options += ["--gpus", str(gpus)]
    # The lines go to the API; a second copy on the instance's disk could fill it.
    return [*options, "--log-driver", "none"]


class Finished(NamedTuple):
    """Result of a short docker command; `code` is None if it did not end in time."""

    code: int | None
    out: str
    error: str


def docker(
    *arguments: str,
    seconds: float = ENGINE_CALL_SECONDS,
    stdin: bytes = b"",
    environment: dict[str, str] | None = None,
) -> Finished:
    """Run one short docker command."""
    try:
        done = subprocess.run(  # an argument list, never a shell
            ["docker", *arguments],  # whichever docker the machine's PATH names
            input=stdin,
            capture_output=True,
            timeout=seconds,
            env=environment or environment_for_children(os.environ),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Finished(None, "", f"docker {arguments[0]} did not end within {seconds:g} seconds")
    except (OSError, ValueError) as error:
        return Finished(None, "", f"docker could not be started: {error}")
    return Finished(
        done.returncode, done.stdout.decode("utf-8", "replace"), clean_error(done.stderr)
    )


def clean_error(raw: bytes) -> str:
    """Return docker's stderr as the text of an error message."""
    return raw.decode("utf-8", "replace").replace("\0", "").strip()[-MAX_ERROR_CHARACTERS:]


def choose_runtime(wanted: str) -> str:
    """Return `docker` or `simulated`; `auto` is docker where an engine answers in time."""
    if wanted != "auto":
        return wanted
    if shutil.which("docker") is None:
        return "simulated"
    probe = docker("version", "--format", "{{.Server.Version}}", seconds=ENGINE_PROBE_SECONDS)
    return "docker" if probe.code == 0 else "simulated"
