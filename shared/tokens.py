"""Bearer tokens: making, comparing and hashing them.

The bootstrap token lets an instance claim one attempt, once. It is derived from a key that the API
and the launcher share, so that it need not be stored and the claim can come before any event. The
attempt token is the agent's own 256 bits, stored as a hash.
"""

import hashlib
import hmac


def bootstrap_token(key: str, deployment: str, job_id: int, attempt: int) -> str:
    """Derive the token with which the instance of this attempt claims it."""
    text = f"bootstrap/{deployment}/{job_id}/{attempt}"
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()


def same(one: str, other: str) -> bool:
    """Return whether two tokens are equal, in constant time."""
    return hmac.compare_digest(one.encode(), other.encode())


def token_hash(token: str) -> bytes:
    """Hash a 256-bit random token for storage; it needs no salt and no slow hash."""
    return hashlib.sha256(token.encode()).digest()
