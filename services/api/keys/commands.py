"""`python -m services.api keys …`: create, list and revoke API keys."""

import argparse
from collections.abc import Callable

from services.api.keys import access
from services.api.keys import store as key_store
from shared.events.requirements import DEFAULT_PROJECT
from shared.postgres.pool import Database
from shared.terminal import escape


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    top = argparse.ArgumentParser(
        prog="python -m services.api keys", description="API keys: create, list, revoke."
    )
    commands = top.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create", help="make a key and show it, once")
    create.add_argument("--name", required=True, help="the owner or the purpose of the key")
    create.add_argument("--scope", choices=access.SCOPES, default="submit", help="default: submit")
    create.add_argument(
        "--project",
        default=DEFAULT_PROJECT,
        help=f"whose jobs it sees; admin sees all (default: {DEFAULT_PROJECT})",
    )
    commands.add_parser("list", help="list the keys, without their secrets")
    revoke = commands.add_parser("revoke", help="revoke a key for good")
    revoke.add_argument("prefix", help="as `list` shows it")
    return top


async def run(db: Database, arguments: argparse.Namespace, write: Callable[[str], None]) -> int:
    """Run a command; return the exit status."""
    if arguments.command == "create":
        return await _create(db, arguments, write)
    if arguments.command == "revoke":
        return await _revoke(db, arguments.prefix, write)
    return await _list(db, write)


async def _create(db: Database, arguments: argparse.Namespace, write: Callable[[str], None]) -> int:
    key = access.make_key()
    async with db.transaction() as tx:
        await key_store.insert_key(
            tx, key.prefix, arguments.name, arguments.scope, key.hashed, arguments.project
        )
    write(key.text)
    return 0


async def _revoke(db: Database, prefix: str, write: Callable[[str], None]) -> int:
    async with db.transaction() as tx:
        revoked = await key_store.revoke_key(tx, access.prefix_of(prefix) or prefix)
    write(f"revoked {prefix}" if revoked else f"there is no valid key with the prefix {prefix!r}")
    return 0 if revoked else 1


async def _list(db: Database, write: Callable[[str], None]) -> int:
    async with db.connection() as conn:
        keys = await key_store.list_keys(conn)
    if not keys:
        write("no keys: on a loopback address the API needs none")
        return 0
    columns = "".join(f"{each:<21}" for each in ("created", "last used", "revoked"))
    write(f"{'prefix':<10}{'scope':<8}{'project':<16}{columns}name")
    for key in keys:
        times = (key.created_at, key.last_used_at, key.revoked_at)
        shown = "".join(f"{f'{at:%Y-%m-%dT%H:%M:%SZ}' if at else '-':<21}" for at in times)
        write(f"{key.prefix:<10}{key.scope:<8}{escape(key.project):<16}{shown}{escape(key.name)}")
    return 0
