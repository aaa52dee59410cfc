"""The agent as a file that an instance fetches and checks by its hash."""

import hashlib

from msgspec import Struct

from agent.build import build


class AgentFile(Struct, frozen=True):
    """The bytes of the agent, and their SHA-256 in hexadecimal digits."""

    content: bytes
    sha256: str


def read_agent_file() -> AgentFile:
    """Build the agent that belongs to this release."""
    content = build()
    return AgentFile(content, hashlib.sha256(content).hexdigest())
