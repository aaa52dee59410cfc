"""The agent's built file, for tests that start it."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import pytest

from agent.build import keep


@functools.cache
def agent_file() -> Path:
    """Return the agent as the process adapter would start it, removed at the end of the tests."""
    directory = tempfile.TemporaryDirectory(prefix="docker-job-test-agent-")
    atexit.register(directory.cleanup)
    return keep(Path(directory.name))


def python_of(version: str) -> str:
    """Return the path of a Python of this version; skip the test if the machine has none."""
    found = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))
    python = str(found[0]) if found else shutil.which(f"python{version}")
    if python is None:
        pytest.skip(f"this machine has no Python {version}")
    return python
