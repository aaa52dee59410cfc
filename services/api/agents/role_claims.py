"""Claims by role: who claims is looked up before STS is asked.

A claim names its instance. Only an instance that was launched for an attempt has a share of the
calls of STS; any other claim ends at a look-up, which is bounded for its address
(`keys/failures.py`). Agents of earlier releases name none: they share a lane of calls.
"""

from dataclasses import dataclass

from services.api.agents import store as agent_store
from services.api.agents.refusals import Refused
from services.api.agents.requests import RoleClaim
from services.api.agents.sts_identity import Identity, VerifiedInstance, digest_of
from services.api.keys.failures import Failures, WrongProof
from shared import tokens
from shared.postgres.pool import Database


class NotLaunched(WrongProof):
    """No attempt has this instance: it was just launched, or is none of ours."""


def name_of(instance_id: str) -> bytes:
    """Return what `Failures` remembers of an instance that was launched for an attempt."""
    return tokens.token_hash(f"instance/{instance_id}")


@dataclass(frozen=True)
class RoleClaims:
    """Verifies the instances of claims."""

    identity: Identity
    db: Database
    failures: Failures

    async def verify(self, claim: RoleClaim, address: str) -> VerifiedInstance:
        """Verify a claim that came from *address*.

        Raises `Refused`, `NotLaunched`, `StsUnavailable` and `TooMany`.
        """
        try:
            verified = self.identity.recall(claim.identity, claim.token)
        except Refused:
            await self.failures.count(address)
            raise
        if verified is None:
            verified = await self._ask(claim, address)
        if claim.instance_id not in (None, verified.instance_id):
            raise Refused(403, "the claim names another instance than that which signed it")
        return verified

    async def _ask(self, claim: RoleClaim, address: str) -> VerifiedInstance:
        name = claim.instance_id
        if name is not None:
            async with self.failures.looking_up(address, name_of(name)):
                await self._find(name)
        # The name is no secret of its agent: each address has an allowance for it.
        share = "" if name is None else f"/{name}"
        digest = digest_of(claim.identity, claim.token)
        async with self.failures.looking_up(address, digest, share):
            return await self.identity.verify(claim.identity, claim.token, name)

    async def _find(self, instance_id: str) -> None:
        async with self.db.connection() as conn:
            if not await agent_store.find_instances(conn, [instance_id]):
                raise NotLaunched(f"instance {instance_id} is not known yet")
