"""The agent as a file: what an instance fetches, and the hash by which it knows it unaltered."""

import hashlib
from pathlib import Path

from msgspec import Struct

PATH = Path(__file__).resolve().parents[3] / "agent" / "docker_job_agent.py"


class AgentFile(Struct, frozen=True):
    """The bytes of the agent, and their SHA-256 in hexadecimal digits."""

    content: bytes
    sha256: str


def read_agent_file(path: Path = PATH) -> AgentFile:
    """The agent that came with this program."""
    content = path.read_bytes()
    return AgentFile(content, hashlib.sha256(content).hexdigest())
