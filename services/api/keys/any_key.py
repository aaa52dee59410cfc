"""The check for API keys: until the first one is made the API is open."""

from dataclasses import dataclass

from services.api.keys import store as key_store
from shared.postgres.pool import Database

REMEMBER_SECONDS = 5.0
"""The time for which "there is none" is cached; keys are revoked, and never deleted."""


@dataclass
class AnyKey:
    """Caches whether there ever was a key."""

    db: Database
    _since: float = float("-inf")
    _found: bool = False

    async def exists(self) -> bool:
        """Return whether there ever was a key: revoking the last one does not open the API."""
        now = self.db.clock.monotonic()
        if not self._found and now - self._since >= REMEMBER_SECONDS:
            async with self.db.connection() as conn:
                self._found = await key_store.any_key(conn)
            self._since = now
        return self._found

    def forget(self) -> None:
        """Drop what is cached."""
        self._since, self._found = float("-inf"), False
