"""The agent as a file: what an instance fetches, and the hash by which it knows it unaltered."""

import hashlib

from msgspec import Struct

from agent.build import build


class AgentFile(Struct, frozen=True):
    """The bytes of the agent, and their SHA-256 in hexadecimal digits."""

    content: bytes
    sha256: str


def read_agent_file() -> AgentFile:
    """The agent that came with this program."""
    content = build()
    return AgentFile(content, hashlib.sha256(content).hexdigest())
