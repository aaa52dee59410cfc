"""The container engine: short commands through Docker's own client."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import NamedTuple

from .environment import environment_for_children
from .errors import MAX_ERROR_CHARACTERS

ENGINE_PROBE_SECONDS = 3.0  # how long `auto` waits for a Docker engine to answer
ENGINE_CALL_SECONDS = 15.0  # one short docker command


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
