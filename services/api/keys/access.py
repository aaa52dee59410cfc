"""Access of users: API keys with three scopes.

A key is `djk_<prefix>_<256 bits>`; only its hash is stored. Until the first key is made the API is
open, for use on a laptop: `server.check_exposure` refuses to start like that on an address that
others can reach, and `hosts.AllowedHosts` refuses web pages. Agents have attempt tokens instead.
"""

import asyncio
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from weakref import WeakValueDictionary

from msgspec import Struct
from msgspec.structs import replace

from services.api.keys import store as key_store
from services.api.keys.any_key import AnyKey
from services.api.keys.caller import ANYONE, Caller
from services.api.keys.failures import Failures, WrongProof
from services.api.keys.rates import TooMany
from services.api.keys.store import ApiKey
from shared import tokens
from shared.log import get_logger
from shared.postgres.pool import Database, is_transient

_log = get_logger(service="api", part="keys")

SCOPES = ("read", "submit", "admin")
"""Each includes the ones before it: read; schedule and cancel; everything."""

REMEMBER_SECONDS = 5.0
"""The time for which a key's row is cached: a revocation takes effect within it."""


class Denied(WrongProof):
    """The caller may not do this. `status` is the HTTP status of the response."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


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
    """Checks keys. Caches the rows of keys that are right for `REMEMBER_SECONDS`."""

    db: Database
    any_key: AnyKey
    failures: Failures
    _known: dict[bytes, tuple[float, ApiKey]] = field(default_factory=dict)
    _locks: WeakValueDictionary[bytes, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    async def check(self, bearer: str | None, scope: str, address: str = "") -> Caller:
        """Return the caller, whose key grants *scope*; *address* is its own. Raises `Denied`."""
        if bearer is None:
            if await self.has_keys():
                raise Denied(401, "give an API key as 'Authorization: Bearer djk_…'")
            return replace(ANYONE, address=address)
        key = await self._find(bearer, address)
        if SCOPES.index(key.scope) < SCOPES.index(scope):
            raise Denied(403, f"this API key's scope is {key.scope}, {scope} is needed")
        return Caller(
            key=key.prefix, name=key.name, scope=key.scope, project=key.project, address=address
        )

    async def is_refused(self, bearer: str | None, address: str) -> bool:
        """Return whether a caller who was admitted is so no longer.

        Its key was revoked, or it has none and the first one was made. False while the database
        cannot be asked.
        """
        try:
            if bearer is None:
                return await self.has_keys()
            await self._find(bearer, address)
        except (Denied, TooMany):
            return True
        except Exception as error:
            if not is_transient(error):
                raise
        return False

    def forget(self, prefix: str) -> None:
        """Drop what is cached of the key *prefix*, and whether there is any."""
        cached = [hashed for hashed, (_, key) in self._known.items() if key.prefix == prefix]
        for each in cached:
            del self._known[each]
        self.any_key.forget()

    async def _find(self, bearer: str, address: str) -> ApiKey:
        """Find the key whose text *bearer* is. Raises `Denied` and `TooMany`."""
        hashed = tokens.token_hash(bearer)
        key = self._fresh(hashed)
        if key is not None:
            return key
        # Many requests with one new key are one look-up, which is counted once.
        async with self._locks.setdefault(hashed, asyncio.Lock()):
            key = self._fresh(hashed)
            if key is None:
                self._known.pop(hashed, None)
                async with self.failures.looking_up(address, hashed):
                    key = await self._load(bearer, hashed)
        return key

    def _fresh(self, hashed: bytes) -> ApiKey | None:
        """Return the cached row of a key, unless it may be outdated."""
        since, key = self._known.get(hashed, (float("-inf"), None))
        return key if self.db.clock.monotonic() - since < REMEMBER_SECONDS else None

    async def _load(self, bearer: str, hashed: bytes) -> ApiKey:
        now, since = self.db.clock.now(), self.db.clock.monotonic()
        prefix, key = prefix_of(bearer), None
        if prefix is not None:
            async with self.db.connection() as conn:
                key = await key_store.find_key(conn, prefix)
        if key is None or not secrets.compare_digest(key.key_hash, hashed):
            raise Denied(401, "this API key is unknown or revoked")
        await self._touch(key.prefix, now)
        self._known[hashed] = (since, key)
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
        """Return whether there ever was a key: without one the API is open."""
        return await self.any_key.exists()
