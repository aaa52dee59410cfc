"""The sweep over used proofs of identity."""

from dataclasses import dataclass

from services.api.agents import store
from shared.postgres.pool import Database


@dataclass(frozen=True)
class ProofSweep:
    """Deletes expired proofs: their date refuses their signatures."""

    db: Database

    async def prune_proofs(self) -> None:
        """Delete the expired proofs."""
        async with self.db.connection() as conn:
            await store.prune_proofs(conn, self.db.clock.now())
