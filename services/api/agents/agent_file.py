"""The agent as a file that an instance fetches and checks by its hash."""

import hashlib
from pathlib import Path

from msgspec import Struct

PATH = Path(__file__).resolve().parents[3] / "agent" / "docker_job_agent.py"


class AgentFile(Struct, frozen=True):
    """The bytes of the agent, and their SHA-256 in hexadecimal digits."""

    content: bytes
    sha256: str


def read_agent_file(path: Path = PATH) -> AgentFile:
    """Read the agent that belongs to this release."""
    content = path.read_bytes()
    return AgentFile(content, hashlib.sha256(content).hexdigest())
