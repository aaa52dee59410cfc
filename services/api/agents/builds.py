"""The agents of this release and of those before it, served by their hash.

The user data of an instance names the hash of the agent of the release that launched it. While it
boots, the API may be replaced; and two replicas of the API may be of different releases. So each
process records its own build in a table, and serves those of the others from there.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.api.agents import builds_store
from services.api.agents.agent_file import AgentFile
from services.api.keys.failures import WrongProof
from shared.postgres.pool import Database

SHA256 = re.compile(r"[0-9a-f]{64}")

KEEP_FOR = timedelta(days=7)
"""For so long after it was last a process's own, a build is served: longer than any boot."""

KEEP_LAST = 5
"""The last builds that are kept however old they are."""

REMEMBERED = 8
"""The most builds of others that a process keeps in memory; one has some 250 kB."""

RECORD_SECONDS = 3600.0
"""The interval of the sweep."""


class NoSuchBuild(WrongProof):
    """No process of this deployment has an agent with this hash, or has had one lately."""


@dataclass
class AgentBuilds:
    """The agents by their hash. *own* is the one of this release."""

    db: Database
    own: AgentFile
    _others: dict[str, AgentFile] = field(default_factory=dict)

    def known(self, sha256: str) -> AgentFile | None:
        """Return the agent with this hash, if this process has it."""
        return self.own if sha256 == self.own.sha256 else self._others.get(sha256)

    async def find(self, sha256: str) -> AgentFile:
        """Return the agent with this hash. Raises `NoSuchBuild`."""
        if (known := self.known(sha256)) is not None:
            return known
        if SHA256.fullmatch(sha256) is None:
            raise NoSuchBuild(f"{sha256!r} is no SHA-256: it must have 64 digits of 0-9 and a-f")
        found = await self._load(sha256)
        self._remember(found)
        return found

    async def record_build(self) -> datetime | None:
        """Record the own build as current, and delete those that no instance can ask for."""
        async with self.db.transaction() as tx:
            await builds_store.record(tx, self.own)
            await builds_store.prune(tx, tx.now - KEEP_FOR, KEEP_LAST)
        return None

    async def _load(self, sha256: str) -> AgentFile:
        async with self.db.connection() as conn:
            content = await builds_store.find(conn, sha256)
        if content is None:
            raise NoSuchBuild(
                f"no agent has the SHA-256 {sha256}: the API that has it is not up yet, or was "
                f"replaced more than {KEEP_FOR.days} days ago"
            )
        return AgentFile(content, sha256)

    def _remember(self, build: AgentFile) -> None:
        if len(self._others) >= REMEMBERED:
            self._others.clear()
        self._others[build.sha256] = build
