"""SQL of claims: attempts by their instances, live ones, tokens already bound, proofs of identity.

Each signature is valid for one agent token, until it expires.
"""

import contextlib
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime

import asyncpg
from msgspec import Struct

from services.api.jobs.store import Owner
from shared.postgres.pool import Connection, Transaction


class Overtaken(Exception):
    """Another transaction has just bound the same token or used the same signature.

    It has committed: a repeated decision sees it.
    """


@contextlib.contextmanager
def noticing_overtakers() -> Iterator[None]:
    """Raise `Overtaken` if the block binds a token that another attempt has."""
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name != "attempts_by_token":
            raise
        raise Overtaken("the token was bound meanwhile") from error


FIND_INSTANCES = """
SELECT DISTINCT ON (instance_id) instance_id, job_id, number FROM attempts
WHERE instance_id = ANY ($1::text[]) ORDER BY instance_id, job_id DESC, number DESC
"""


async def find_instances(conn: Connection, instance_ids: Collection[str]) -> dict[str, Owner]:
    """Find the attempts that these instances were launched for."""
    rows = await conn.fetch(FIND_INSTANCES, list(instance_ids))
    return {row["instance_id"]: Owner(row["job_id"], row["number"]) for row in rows}


# What is checked at some time lives: agents with their tokens, and instances that boot.
FIND_LIVE = """
SELECT token_hash, instance_id FROM attempts WHERE check_at IS NOT NULL
ORDER BY check_at DESC LIMIT $1
"""


class LiveAttempt(Struct, frozen=True):
    """The token and the instance of an attempt, as far as it has them."""

    token_hash: bytes | None
    instance_id: str | None


async def find_live(conn: Connection, most: int) -> list[LiveAttempt]:
    """Find the attempts that live, *most* at the most."""
    return [LiveAttempt(**row) for row in await conn.fetch(FIND_LIVE, most)]


class ProofUse(Struct, frozen=True):
    """A signature that proved an instance's identity, and the token that it was for."""

    signature: bytes
    token_hash: bytes
    expires_at: datetime


FIND_PROOFS = """
SELECT signature, token_hash FROM used_proofs WHERE signature = ANY ($1::bytea[])
"""


async def find_proofs(conn: Connection, signatures: Collection[bytes]) -> dict[bytes, bytes]:
    """Find the tokens that *signatures* were used with; unused ones are left out."""
    rows = await conn.fetch(FIND_PROOFS, list(signatures))
    return {row["signature"]: row["token_hash"] for row in rows}


# Of two transactions with one signature the second waits here, and then sees the first one's row;
# in order, so that they never deadlock.
USE_PROOFS = """
INSERT INTO used_proofs (signature, token_hash, expires_at)
SELECT signature, token_hash, expires_at
FROM unnest($1::bytea[], $2::bytea[], $3::timestamptz[]) AS new (signature, token_hash, expires_at)
ORDER BY signature
ON CONFLICT (signature) DO UPDATE SET signature = excluded.signature
RETURNING signature, token_hash
"""


async def use_proofs(tx: Transaction, uses: Sequence[ProofUse]) -> None:
    """Record signatures, each once in *uses*. Raises `Overtaken` for one with another token."""
    signatures = [each.signature for each in uses]
    hashes = [each.token_hash for each in uses]
    expiries = [each.expires_at for each in uses]
    rows = await tx.conn.fetch(USE_PROOFS, signatures, hashes, expiries)
    if {(row["signature"], row["token_hash"]) for row in rows} != {
        *zip(signatures, hashes, strict=True)
    }:
        raise Overtaken("the signature was used meanwhile")


PRUNE_PROOFS = "DELETE FROM used_proofs WHERE expires_at < $1"


async def prune_proofs(conn: Connection, now: datetime) -> None:
    """Delete expired signatures: their date refuses them."""
    await conn.execute(PRUNE_PROOFS, now)
