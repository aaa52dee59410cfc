"""SQL of `Idempotency-Key`: the first answer to each key of each caller."""

from datetime import datetime

from msgspec import Struct

from shared.postgres.pool import Connection, Transaction


class KeptAnswer(Struct, frozen=True):
    """The first answer to a key, and the hash of the body that it answers."""

    body_hash: bytes
    job_id: int
    answer: bytes


def kept_as(key: str, api_key: str | None) -> str:
    """Return under what *key* is kept: apart for each API key (its prefix), and for none.

    The header has no control character, so no caller can give what another's is kept as.
    """
    return key if api_key is None else f"{api_key}\n{key}"


# Of two requests at once, the second waits here until the first is decided, and then inserts
# nothing.
CLAIM_KEY = """
INSERT INTO idempotency_keys (key, body_hash, job_id, answer, created_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING
"""


async def claim_key(tx: Transaction, key: str, kept: KeptAnswer) -> bool:
    """Keep *kept* as the answer to *key*; return False if there is one already."""
    result = await tx.conn.execute(CLAIM_KEY, key, kept.body_hash, kept.job_id, kept.answer, tx.now)
    return bool(result == "INSERT 0 1")


FIND_KEY = "SELECT body_hash, job_id, answer FROM idempotency_keys WHERE key = $1"


async def find_key(conn: Connection, key: str) -> KeptAnswer | None:
    """Find the first answer to *key*."""
    row = await conn.fetchrow(FIND_KEY, key)
    return None if row is None else KeptAnswer(row["body_hash"], row["job_id"], row["answer"])


# While there are API keys only the release before keeps a row without one: it did not yet record
# whose it was, and its callers and jobs are all of the default project.
FIND_KEY_OF_RELEASE_BEFORE = """
SELECT body_hash, job_id, answer FROM idempotency_keys
WHERE key = $1 AND body_hash = $2 AND created_at > (SELECT min(created_at) FROM api_keys)
"""


async def find_key_of_release_before(
    conn: Connection, key: str, body_hash: bytes
) -> KeptAnswer | None:
    """Find the first answer to *key* and that body, given by an earlier release to an API key.

    So a request that is repeated across the upgrade schedules no second job.
    """
    row = await conn.fetchrow(FIND_KEY_OF_RELEASE_BEFORE, key, body_hash)
    return None if row is None else KeptAnswer(row["body_hash"], row["job_id"], row["answer"])


PRUNE_KEYS = """
DELETE FROM idempotency_keys WHERE key = ANY (ARRAY(
    SELECT key FROM idempotency_keys WHERE created_at < $1 ORDER BY created_at LIMIT $2))
"""


async def prune_keys(conn: Connection, before: datetime, limit: int) -> bool:
    """Delete keys older than *before*, up to *limit*; return True if there may be more."""
    return bool(await conn.execute(PRUNE_KEYS, before, limit) == f"DELETE {limit}")
