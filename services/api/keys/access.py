"""Access of users: API keys with three scopes, and a rate limit for each caller.

A key is `djk_<prefix>_<256 bits>`; only its hash is stored. Until the first key is made the API is
open, for use on a laptop: `server.check_exposure` refuses to start like that on an address that
others can reach, and `hosts.AllowedHosts` refuses web pages. Agents have attempt tokens instead.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from services.api.keys import store as key_store
from services.api.keys.caller import ANYONE, Caller
from services.api.keys.store import ApiKey
from services.api.processes.siblings import RateBuckets
from shared import tokens
from shared.log import get_logger
from shared.postgres.pool import Database, is_transient

_log = get_logger(service="api", part="keys")

SCOPES = ("read", "submit", "admin")
"""Each includes the ones before it: read; schedule and cancel; everything."""

REMEMBER_SECONDS = 5.0
"""The time for which a key's row is cached: a revocation takes effect within it."""

REMEMBERED_KEYS = 10_000


class Denied(Exception):
    """The caller may not do this. `status` is the HTTP status of the response."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class TooMany(Exception):
    """The caller makes more requests than the setting allows; `wait_seconds` until the next one."""

    def __init__(self, wait_seconds: float) -> None:
        super().__init__(f"too many requests: wait {wait_seconds:.1f} s")
        self.wait_seconds = wait_seconds


class NewKey(Struct, frozen=True):
    """A new key: its text, which is shown once, and its prefix and hash, which are stored."""

    prefix: str
    text: str

    @property
    def hashed(self) -> bytes:
        return tokens.token_hash(self.text)


def make_key() -> NewKey:
    """Make a new key of 256 random bits."""
    prefix = secrets.token_hex(4)
    return NewKey(prefix, f"djk_{prefix}_{secrets.token_hex(32)}")


def prefix_of(key: str) -> str | None:
    """Return the prefix of a key's text, or None if it does not have a key's form."""
    parts = key.split("_")
    return parts[1] if len(parts) == 3 and parts[0] == "djk" else None


@dataclass
class Access:
    """Checks keys. Caches rows for `REMEMBER_SECONDS`, absent ones too."""

    db: Database
    _known: dict[str, tuple[float, ApiKey | None]] = field(default_factory=dict)
    _any_key: tuple[float, bool] = (float("-inf"), False)

    async def check(self, bearer: str | None, scope: str, address: str = "") -> Caller:
        """Return the caller, whose key grants *scope*; *address* is its own. Raises `Denied`."""
        if bearer is None:
            if await self.has_keys():
                raise Denied(401, "give an API key as 'Authorization: Bearer djk_…'")
            return replace(ANYONE, address=address)
        key = await self.find(bearer)
        if key is None:
            raise Denied(401, "this API key is unknown or revoked")
        if SCOPES.index(key.scope) < SCOPES.index(scope):
            raise Denied(403, f"this API key's scope is {key.scope}, {scope} is needed")
        return Caller(
            key=key.prefix, name=key.name, scope=key.scope, project=key.project, address=address
        )

    async def find(self, bearer: str) -> ApiKey | None:
        """Find the key whose text *bearer* is; None if it is unknown or revoked."""
        prefix = prefix_of(bearer)
        key = None if prefix is None else await self._find(prefix)
        known = key is not None and secrets.compare_digest(key.key_hash, tokens.token_hash(bearer))
        return key if known else None

    def forget(self, prefix: str) -> None:
        """Drop what is cached of the key *prefix*, and whether there is any."""
        self._known.pop(prefix, None)
        self._any_key = (float("-inf"), False)

    async def _find(self, prefix: str) -> ApiKey | None:
        now = self.db.clock.now()
        seconds = now.timestamp()
        remembered = self._known.get(prefix)
        if remembered is not None and seconds - remembered[0] < REMEMBER_SECONDS:
            return remembered[1]
        async with self.db.connection() as conn:
            key = await key_store.find_key(conn, prefix)
        if key is not None:
            await self._touch(prefix, now)
        if len(self._known) >= REMEMBERED_KEYS:
            self._known.clear()  # guessed prefixes must not fill the memory
        self._known[prefix] = (seconds, key)
        return key

    async def _touch(self, prefix: str, now: datetime) -> None:
        """Record the use of a key, if the database takes writes: reading must not need it."""
        try:
            async with self.db.connection() as conn:
                await key_store.touch_key(conn, prefix, now)
        except Exception as error:
            if not is_transient(error):
                raise
            _log.warning("the use of a key is not recorded", prefix=prefix, error=str(error))

    async def has_keys(self) -> bool:
        """Return whether there ever was a key: without one the API is open. Cached like keys."""
        seconds = self.db.clock.now().timestamp()
        if seconds - self._any_key[0] >= REMEMBER_SECONDS:
            async with self.db.connection() as conn:
                self._any_key = (seconds, await key_store.any_key(conn))
        return self._any_key[1]


@dataclass
class RateLimit:
    """A token bucket for each caller: `per_second` on average (0: no limit), `burst` at once."""

    per_second: float
    burst: float
    seconds: Callable[[], float]
    buckets: RateBuckets

    def take(self, caller: str) -> None:
        """Count one request of *caller*. Raises `TooMany`."""
        if self.per_second <= 0:
            return
        now = self.seconds()
        left, at = self.buckets.read(caller) or (self.burst, now)
        left = min(self.burst, max(0.0, left) + max(0.0, now - at) * self.per_second)
        if left < 1:
            self.buckets.write(caller, left, now)
            raise TooMany((1 - left) / self.per_second)
        self.buckets.write(caller, left - 1, now)
