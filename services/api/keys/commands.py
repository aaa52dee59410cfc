"""`python -m services.api keys …`: create, list and revoke API keys."""

import argparse
from collections.abc import Callable

from services.api.keys import access
from services.api.keys import store as key_store
from shared.postgres.pool import Database


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="python -m services.api keys", description="API keys: create, list, revoke."
    )
    commands = top.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create", help="make a key and show it, once")
    create.add_argument("--name", required=True, help="whose key it is, or what for")
    create.add_argument("--scope", choices=access.SCOPES, default="submit", help="default: submit")
    commands.add_parser("list", help="list the keys, without their secrets")
    revoke = commands.add_parser("revoke", help="make a key good for nothing")
    revoke.add_argument("prefix", help="as `list` shows it")
    return top


async def run(db: Database, arguments: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Run a command; returns the exit status."""
    if arguments.command == "create":
        return await _create(db, arguments.name, arguments.scope, say)
    if arguments.command == "revoke":
        return await _revoke(db, arguments.prefix, say)
    return await _list(db, say)


async def _create(db: Database, name: str, scope: str, say: Callable[[str], None]) -> int:
    key = access.make_key()
    async with db.transaction() as tx:
        await key_store.insert_key(tx, key.prefix, name, scope, key.hashed)
    say(key.text)
    return 0


async def _revoke(db: Database, prefix: str, say: Callable[[str], None]) -> int:
    async with db.transaction() as tx:
        revoked = await key_store.revoke_key(tx, access.prefix_of(prefix) or prefix)
    say(f"revoked {prefix}" if revoked else f"there is no good key with the prefix {prefix!r}")
    return 0 if revoked else 1


async def _list(db: Database, say: Callable[[str], None]) -> int:
    async with db.connection() as conn:
        keys = await key_store.list_keys(conn)
    if not keys:
        say("no keys: on a loopback address the API is open to all")
        return 0
    say(f"{'prefix':<10}{'scope':<8}{'created':<21}{'last used':<21}{'revoked':<21}name")
    for key in keys:
        times = (key.created_at, key.last_used_at, key.revoked_at)
        shown = "".join(f"{f'{at:%Y-%m-%dT%H:%M:%SZ}' if at else '-':<21}" for at in times)
        say(f"{key.prefix:<10}{key.scope:<8}{shown}{key.name}")
    return 0
