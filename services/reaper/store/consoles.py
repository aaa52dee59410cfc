"""SQL over the consoles of instances that did not boot, or ended by themselves."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from shared.console_text import NOTE
from shared.postgres.pool import Connection, Transaction

# Of what runs, as far as is known here: the end of its attempt was not received, and none was asked
# for. By the instances' ids alone, as in `terminations`.
FIND_UNREAD = """
SELECT instance_id, settled_at, due_at FROM instances
WHERE instance_id = ANY ($1::text[]) AND job_id IS NOT NULL
    AND NOT EXISTS (SELECT FROM consoles WHERE consoles.instance_id = instances.instance_id)
    AND NOT EXISTS (SELECT FROM ended_attempts AS ended
        WHERE ended.job_id = instances.job_id AND ended.attempt = instances.attempt)
"""


async def find_unread(conn: Connection, instance_ids: Sequence[str]) -> list[str]:
    """Return those of *instance_ids* whose end is news, and whose console was not read."""
    rows = await conn.fetch(FIND_UNREAD, instance_ids)
    return [
        row["instance_id"] for row in rows if row["settled_at"] is None and row["due_at"] is None
    ]


KEEP_CONSOLES = """
INSERT INTO consoles (instance_id, output, read_at)
SELECT instance_id, output, $3 FROM unnest($1::text[], $2::text[]) AS new (instance_id, output)
ORDER BY instance_id
ON CONFLICT (instance_id) DO UPDATE SET output = excluded.output, read_at = excluded.read_at
    WHERE starts_with(consoles.output, $4) AND NOT starts_with(excluded.output, $4)
RETURNING instance_id
"""


async def keep_consoles(tx: Transaction, found: Mapping[str, str]) -> list[str]:
    """Keep these consoles, by instance: the first of each, or the first after a note.

    Return those that are kept.
    """
    if not found:
        return []
    rows = await tx.conn.fetch(KEEP_CONSOLES, list(found), list(found.values()), tx.now, NOTE)
    return [row["instance_id"] for row in rows]


LOAD_CONSOLES = "SELECT instance_id, output FROM consoles WHERE instance_id = ANY ($1::text[])"


async def load_consoles(tx: Transaction, instance_ids: Sequence[str]) -> dict[str, str]:
    """Load the consoles of these, by instance."""
    rows = await tx.conn.fetch(LOAD_CONSOLES, instance_ids)
    return {row["instance_id"]: row["output"] for row in rows}


PRUNE_CONSOLES = """
DELETE FROM consoles WHERE instance_id = ANY (ARRAY(
    SELECT instance_id FROM consoles WHERE read_at < $1 ORDER BY read_at LIMIT $2))
"""


async def prune_consoles(tx: Transaction, before: datetime, limit: int) -> bool:
    """Delete consoles read before *before*; return True if there may be more."""
    result = await tx.conn.execute(PRUNE_CONSOLES, before, limit)
    return int(result.removeprefix("DELETE ")) >= limit
