"""SQL over the agents of this release and those before it."""

from datetime import datetime

from services.api.agents.agent_file import AgentFile
from shared.postgres.pool import Connection, Transaction

# The content is sent once: this is repeated by each process each hour.
TOUCH_BUILD = "UPDATE agent_builds SET current_at = $2 WHERE sha256 = $1"
ADD_BUILD = """
INSERT INTO agent_builds (sha256, content, first_served_at, current_at) VALUES ($1, $2, $3, $3)
ON CONFLICT (sha256) DO UPDATE SET current_at = excluded.current_at
"""


async def record(tx: Transaction, build: AgentFile) -> None:
    """Record that a process has *build* as its own now."""
    if await tx.conn.execute(TOUCH_BUILD, build.sha256, tx.now) == "UPDATE 0":
        await tx.conn.execute(ADD_BUILD, build.sha256, build.content, tx.now)


FIND_BUILD = "SELECT content FROM agent_builds WHERE sha256 = $1"


async def find(conn: Connection, sha256: str) -> bytes | None:
    """Return the agent with this hash, None if there is none."""
    content: bytes | None = await conn.fetchval(FIND_BUILD, sha256)
    return content


FIND_BUILD_HASHES = "SELECT sha256 FROM agent_builds"


async def find_hashes(conn: Connection) -> list[str]:
    """Return the hashes of all agents."""
    return [row["sha256"] for row in await conn.fetch(FIND_BUILD_HASHES)]


PRUNE_BUILDS = """
DELETE FROM agent_builds WHERE current_at < $1 AND sha256 NOT IN (
    SELECT sha256 FROM agent_builds ORDER BY current_at DESC, sha256 LIMIT $2)
"""


async def prune(tx: Transaction, before: datetime, last: int) -> None:
    """Delete those that were last current before *before*, but the *last* ones."""
    await tx.conn.execute(PRUNE_BUILDS, before, last)
