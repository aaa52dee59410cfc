"""SQL of `api_keys`."""

from datetime import datetime

from msgspec import Struct

from shared.events.requirements import DEFAULT_PROJECT
from shared.postgres.pool import Connection, Transaction


class ApiKey(Struct, frozen=True, kw_only=True):
    """A row of `api_keys`, which has the hash of the key and not the key; and its project."""

    prefix: str
    name: str
    scope: str
    key_hash: bytes
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None
    project: str


INSERT_KEY = """
WITH new AS (
    INSERT INTO api_keys (prefix, name, scope, key_hash, created_at) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT DO NOTHING RETURNING prefix
)
INSERT INTO key_projects (prefix, project) SELECT prefix, $6 FROM new
"""


async def insert_key(
    tx: Transaction,
    prefix: str,
    name: str,
    scope: str,
    key_hash: bytes,
    project: str = DEFAULT_PROJECT,
) -> bool:
    """Store a new key's hash; return False if there is a key with this prefix already."""
    result = await tx.conn.execute(INSERT_KEY, prefix, name, scope, key_hash, tx.now, project)
    return bool(result == "INSERT 0 1")


_KEYS = """
SELECT prefix, name, scope, key_hash, created_at, last_used_at, revoked_at,
    coalesce(project, 'default') AS project
FROM api_keys LEFT JOIN key_projects USING (prefix)
"""
FIND_API_KEY = f"{_KEYS} WHERE prefix = $1 AND revoked_at IS NULL"


async def find_key(conn: Connection, prefix: str) -> ApiKey | None:
    """Find the key with this prefix, unless it was revoked."""
    row = await conn.fetchrow(FIND_API_KEY, prefix)
    return None if row is None else ApiKey(**row)


LOCK_KEYS = "LOCK TABLE api_keys IN SHARE ROW EXCLUSIVE MODE"


async def lock_keys(tx: Transaction) -> None:
    """Let no other transaction change keys meanwhile; requests still read them."""
    await tx.conn.execute(LOCK_KEYS)


ANY_GOOD_KEY = "SELECT EXISTS (SELECT FROM api_keys WHERE revoked_at IS NULL)"


async def any_good_key(conn: Connection) -> bool:
    """Return whether there is a valid key."""
    return bool(await conn.fetchval(ANY_GOOD_KEY))


ANY_KEY = "SELECT EXISTS (SELECT FROM api_keys)"


async def any_key(conn: Connection) -> bool:
    """Return whether there ever was a key: revoking the last one must not open the API."""
    return bool(await conn.fetchval(ANY_KEY))


FIND_HASHES = """
SELECT key_hash FROM api_keys WHERE revoked_at IS NULL
ORDER BY last_used_at DESC NULLS LAST LIMIT $1
"""


async def find_hashes(conn: Connection, most: int) -> list[bytes]:
    """Find the hashes of the valid keys, *most* at the most: those that were used last."""
    return [row["key_hash"] for row in await conn.fetch(FIND_HASHES, most)]


LIST_KEYS = f"{_KEYS} ORDER BY created_at, prefix"


async def list_keys(conn: Connection) -> list[ApiKey]:
    """List all keys, revoked ones too, the oldest first."""
    return [ApiKey(**row) for row in await conn.fetch(LIST_KEYS)]


# Once a minute at most: a busy key must not make a hot row.
TOUCH_KEY = """
UPDATE api_keys SET last_used_at = $2
WHERE prefix = $1 AND (last_used_at IS NULL OR last_used_at < $2::timestamptz - interval '1 minute')
"""


async def touch_key(conn: Connection, prefix: str, now: datetime) -> None:
    """Record that the key was used."""
    await conn.execute(TOUCH_KEY, prefix, now)


REVOKE_KEY = "UPDATE api_keys SET revoked_at = $2 WHERE prefix = $1 AND revoked_at IS NULL"


async def revoke_key(tx: Transaction, prefix: str) -> bool:
    """Revoke a key; return False if there is no valid one with this prefix."""
    return bool(await tx.conn.execute(REVOKE_KEY, prefix, tx.now) == "UPDATE 1")
