"""The sweeps over used proofs of identity, and over the callers that are known to be right."""

import asyncio
from dataclasses import dataclass

from services.api.agents import builds_store, store
from services.api.agents.role_claims import name_of
from services.api.keys import store as key_store
from services.api.keys.failures import MOST_PROVEN, Failures
from shared.postgres.pool import Database

AT_ONCE = 1000
"""The callers that are remembered without a pause, which takes some milliseconds."""


@dataclass(frozen=True)
class ProofSweep:
    """Deletes expired proofs: their date refuses their signatures."""

    db: Database

    async def prune_proofs(self) -> None:
        """Delete the expired proofs."""
        async with self.db.connection() as conn:
            await store.prune_proofs(conn, self.db.clock.now())


@dataclass(frozen=True)
class CallerSweep:
    """Remembers all callers that are right, once at the start and after some were refused."""

    db: Database
    failures: Failures

    async def remember_callers(self) -> None:
        """Load the valid keys, the live attempts and the agents' files."""
        if not self.failures.must_learn:
            return
        self.failures.must_learn = False  # who is refused from now on needs another pass
        try:
            right = await self._load()
        except BaseException:
            self.failures.must_learn = True
            raise
        for start in range(0, len(right), AT_ONCE):
            self.failures.remember(right[start : start + AT_ONCE])
            await asyncio.sleep(0)  # requests go on in between

    async def _load(self) -> list[bytes]:
        async with self.db.connection() as conn:
            keys = await key_store.find_hashes(conn, MOST_PROVEN)
            attempts = await store.find_live(conn, MOST_PROVEN)
            builds = await builds_store.find_hashes(conn)
        right = [each.encode() for each in builds] + keys
        right += [each.token_hash for each in attempts if each.token_hash]
        right += [name_of(each.instance_id) for each in attempts if each.instance_id]
        return right
