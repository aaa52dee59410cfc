"""Making and revoking API keys, each with its entry in the audit trail."""

from dataclasses import dataclass
from datetime import datetime

from msgspec import Struct

from services.api.audit import acts
from services.api.audit.acts import Actor
from services.api.audit.store import add_act
from services.api.keys import store as key_store
from services.api.keys.access import Access, NewKey, make_key
from services.api.keys.store import ApiKey
from shared.postgres.pool import Database, Transaction


class NoSuchKey(Exception):
    """There is no valid key with this prefix."""


class KeyNeeded(Exception):
    """Without this key nobody could manage keys over HTTP."""


class ListedKey(Struct, frozen=True, kw_only=True):
    """A key without its secret."""

    prefix: str
    name: str
    scope: str
    project: str
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


class CreatedKey(Struct, frozen=True, kw_only=True):
    """A new key: *key* is its text, which is shown this one time."""

    key: str
    prefix: str
    name: str
    scope: str
    project: str
    created_at: datetime


class WantedKey(Struct, frozen=True, kw_only=True):
    """A key to make."""

    name: str
    scope: str
    project: str


@dataclass(frozen=True)
class KeyService:
    """The keys; *access*, if there is one, caches nothing that has changed."""

    db: Database
    access: Access | None = None

    async def create(self, wanted: WantedKey, actor: Actor) -> CreatedKey:
        """Make a key. Raises `KeyNeeded` if the first key over HTTP is no admin's."""
        async with self.db.transaction() as tx:
            await key_store.lock_keys(tx)
            first = not await key_store.any_key(tx.conn)
            if first and self.access is not None and wanted.scope != "admin":
                raise KeyNeeded(
                    f"scope is {wanted.scope}: the first key must have the scope admin, since from "
                    "then on only an admin key makes further ones"
                )
            new = await _insert_new(tx, wanted)
            await add_act(tx, actor, "key.create", subject=new.prefix)
        self._changed(new.prefix)
        if self.access is not None:
            self.access.failures.remember([new.hashed])
        acts.log(actor, "key.create", subject=new.prefix)
        return CreatedKey(
            key=new.text,
            prefix=new.prefix,
            name=wanted.name,
            scope=wanted.scope,
            project=wanted.project,
            created_at=tx.now,
        )

    async def list_keys(self) -> list[ListedKey]:
        """List all keys, revoked ones too, the oldest first."""
        async with self.db.connection() as conn:
            return [_listed(each) for each in await key_store.list_keys(conn)]

    async def revoke(self, prefix: str, actor: Actor) -> None:
        """Revoke a key for good. Raises `NoSuchKey`; over HTTP also `KeyNeeded`."""
        async with self.db.transaction() as tx:
            await key_store.lock_keys(tx)
            good = [each for each in await key_store.list_keys(tx.conn) if each.revoked_at is None]
            if all(each.prefix != prefix for each in good):
                raise NoSuchKey(f"there is no valid key with the prefix {prefix[:40]!r}")
            admins = [each.prefix for each in good if each.scope == "admin"]
            if self.access is not None and admins == [prefix]:
                raise KeyNeeded(
                    f"{prefix} is the last key of scope admin: make another one first, or revoke "
                    "it on the machine with 'keys revoke'"
                )
            await key_store.revoke_key(tx, prefix)
            await add_act(tx, actor, "key.revoke", subject=prefix)
        self._changed(prefix)
        acts.log(actor, "key.revoke", subject=prefix)

    def _changed(self, prefix: str) -> None:
        if self.access is not None:
            self.access.forget(prefix)


async def _insert_new(tx: Transaction, wanted: WantedKey) -> NewKey:
    """Make and store a key. Its prefix of 32 random bits is another one's once in a long while."""
    while True:
        new = make_key()
        if await key_store.insert_key(
            tx, new.prefix, wanted.name, wanted.scope, new.hashed, wanted.project
        ):
            return new


def _listed(key: ApiKey) -> ListedKey:
    return ListedKey(**{name: getattr(key, name) for name in ListedKey.__struct_fields__})
