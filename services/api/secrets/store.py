"""SQL of sealed secrets. `ACCEPT_JOBS` writes them with their job."""

from services.api.secrets.sealing import Sealed
from shared.postgres.pool import Connection

FIND_SECRETS = "SELECT key_id, sealed FROM job_secrets WHERE job_id = $1"


async def find_secrets(conn: Connection, job_id: int) -> Sealed | None:
    """Find the sealed values of a job; None if it has none, or they were wiped."""
    row = await conn.fetchrow(FIND_SECRETS, job_id)
    return None if row is None else Sealed(row["key_id"], row["sealed"])
