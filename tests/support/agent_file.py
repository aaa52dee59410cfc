"""The agent's built file, for tests that start it."""

import atexit
import functools
import tempfile
from pathlib import Path

from agent.build import keep


@functools.cache
def agent_file() -> Path:
    """The agent as the process adapter would start it, removed when the tests have ended."""
    directory = tempfile.TemporaryDirectory(prefix="docker-job-test-agent-")
    atexit.register(directory.cleanup)
    return keep(Path(directory.name))
