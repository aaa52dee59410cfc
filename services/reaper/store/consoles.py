"""SQL over the consoles of instances that did not boot, or ended by themselves."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from msgspec import convert

from services.reaper.model import KeptConsole
from shared.console_text import NOTE
from shared.postgres.pool import Connection, Transaction

# Of what runs, as far as is known here: the end of its attempt was not received, and none was asked
# for. By the instances' ids alone, as in `terminations`.
FIND_UNREAD = """
SELECT instance_id, settled_at, due_at,
    (SELECT early FROM consoles WHERE consoles.instance_id = instances.instance_id) AS early
FROM instances
WHERE instance_id = ANY ($1::text[]) AND job_id IS NOT NULL
    AND NOT EXISTS (SELECT FROM ended_attempts AS ended
        WHERE ended.job_id = instances.job_id AND ended.attempt = instances.attempt)
"""


async def find_unread(
    conn: Connection, stopping: Sequence[str], terminated: Collection[str]
) -> list[str]:
    """Return those whose end is news, and whose console was not read; these come first.

    One that was read while its instance was *stopping* is read again once that is *terminated*.
    """
    rows = await conn.fetch(FIND_UNREAD, [*stopping, *terminated])
    news = [row for row in rows if row["settled_at"] is None and row["due_at"] is None]
    never = [row["instance_id"] for row in news if row["early"] is None]
    return never + [
        row["instance_id"] for row in news if row["early"] and row["instance_id"] in terminated
    ]


KEEP_CONSOLES = """
INSERT INTO consoles (instance_id, output, characters, early, read_at)
SELECT instance_id, output, characters, early, $3
FROM unnest($1::text[], $2::text[], $5::integer[], $6::boolean[])
    AS new (instance_id, output, characters, early)
ORDER BY instance_id
ON CONFLICT (instance_id) DO UPDATE SET output = excluded.output,
    characters = excluded.characters, early = excluded.early, read_at = excluded.read_at
    WHERE CASE WHEN consoles.output = '' THEN excluded.output <> ''
        WHEN excluded.output = '' OR starts_with(excluded.output, $4) THEN false
        WHEN starts_with(consoles.output, $4) THEN true
        ELSE consoles.early AND excluded.characters > consoles.characters END
RETURNING instance_id
"""


async def keep_consoles(tx: Transaction, found: Mapping[str, KeptConsole]) -> list[str]:
    """Keep these consoles, by instance: the first of each, or a better one.

    Better than nothing is a note, than that a console, and than an early one a longer one: of two
    readings EC2 may answer the second with what it posted before. Return those that are kept.
    """
    if not found:
        return []
    texts = found.values()
    rows = await tx.conn.fetch(
        KEEP_CONSOLES,
        list(found),
        [each.output for each in texts],
        tx.now,
        NOTE,
        [each.characters for each in texts],
        [each.early for each in texts],
    )
    return [row["instance_id"] for row in rows]


LOAD_CONSOLES = """
SELECT instance_id, output, characters, early FROM consoles WHERE instance_id = ANY ($1::text[])
"""


async def load_consoles(tx: Transaction, instance_ids: Sequence[str]) -> dict[str, KeptConsole]:
    """Load the consoles of these, by instance."""
    rows = await tx.conn.fetch(LOAD_CONSOLES, instance_ids)
    return {row["instance_id"]: convert(dict(row), KeptConsole) for row in rows}


PRUNE_CONSOLES = """
DELETE FROM consoles WHERE instance_id = ANY (ARRAY(
    SELECT instance_id FROM consoles WHERE read_at < $1 ORDER BY read_at LIMIT $2))
"""


async def prune_consoles(tx: Transaction, before: datetime, limit: int) -> bool:
    """Delete consoles read before *before*; return True if there may be more."""
    result = await tx.conn.execute(PRUNE_CONSOLES, before, limit)
    return int(result.removeprefix("DELETE ")) >= limit
