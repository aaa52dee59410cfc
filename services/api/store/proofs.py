"""SQL of identity proofs: each signature is good for one agent token, until it expires."""

from datetime import datetime

from services.api.store.jobs import Owner
from shared.db import Connection, Transaction

FIND_INSTANCE = """
SELECT job_id, number FROM attempts WHERE instance_id = $1 ORDER BY job_id DESC, number DESC LIMIT 1
"""


async def find_instance(conn: Connection, instance_id: str) -> Owner | None:
    """The attempt that the launcher has assigned to this instance."""
    row = await conn.fetchrow(FIND_INSTANCE, instance_id)
    return None if row is None else Owner(row["job_id"], row["number"])


# Of two transactions with one signature the second waits here, and then sees the first one's row.
USE_PROOF = """
INSERT INTO used_proofs (signature, token_hash, expires_at) VALUES ($1, $2, $3)
ON CONFLICT (signature) DO UPDATE SET signature = excluded.signature
RETURNING token_hash
"""


async def use_proof(
    tx: Transaction, signature: bytes, token_hash: bytes, expires_at: datetime
) -> bool:
    """Remember a signature; False where it was used with another token."""
    used_with = await tx.conn.fetchval(USE_PROOF, signature, token_hash, expires_at)
    return bool(used_with == token_hash)


PRUNE_PROOFS = "DELETE FROM used_proofs WHERE expires_at < $1"


async def prune_proofs(conn: Connection, now: datetime) -> None:
    """Forget signatures that nobody takes any more."""
    await conn.execute(PRUNE_PROOFS, now)
