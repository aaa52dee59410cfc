"""`python -m services.api keys …`: create, list and revoke API keys."""

import argparse
from collections.abc import Callable

from services.api.audit.acts import LOCAL_COMMAND
from services.api.keys import access
from services.api.keys.names import BadName, read_name, read_project
from services.api.keys.service import KeyService, NoSuchKey, WantedKey
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
    create.add_argument(
        "--name", type=_named(read_name), required=True, help="the owner or the purpose of the key"
    )
    create.add_argument("--scope", choices=access.SCOPES, default="submit", help="default: submit")
    create.add_argument(
        "--project",
        type=_named(read_project),
        default=DEFAULT_PROJECT,
        help=f"whose jobs it sees; admin sees all (default: {DEFAULT_PROJECT})",
    )
    commands.add_parser("list", help="list the keys, without their secrets")
    revoke = commands.add_parser("revoke", help="revoke a key for good")
    revoke.add_argument("prefix", help="as `list` shows it")
    return top


def _named(read: Callable[[str], str]) -> Callable[[str], str]:
    def name(text: str) -> str:
        try:
            return read(text)
        except BadName as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return name


async def run(db: Database, arguments: argparse.Namespace, write: Callable[[str], None]) -> int:
    """Run a command; return the exit status."""
    keys = KeyService(db)
    if arguments.command == "create":
        wanted = WantedKey(name=arguments.name, scope=arguments.scope, project=arguments.project)
        write((await keys.create(wanted, LOCAL_COMMAND)).key)
        return 0
    if arguments.command == "revoke":
        return await _revoke(keys, arguments.prefix, write)
    return await _list(keys, write)


async def _revoke(keys: KeyService, prefix: str, write: Callable[[str], None]) -> int:
    try:
        await keys.revoke(access.prefix_of(prefix) or prefix, LOCAL_COMMAND)
    except NoSuchKey:
        write(f"there is no valid key with the prefix {prefix!r}")
        return 1
    write(f"revoked {prefix}")
    return 0


async def _list(keys: KeyService, write: Callable[[str], None]) -> int:
    listed = await keys.list_keys()
    if not listed:
        write("no keys: on a loopback address the API needs none")
        return 0
    columns = "".join(f"{each:<21}" for each in ("created", "last used", "revoked"))
    write(f"{'prefix':<10}{'scope':<8}{'project':<16}{columns}name")
    for key in listed:
        times = (key.created_at, key.last_used_at, key.revoked_at)
        shown = "".join(f"{f'{at:%Y-%m-%dT%H:%M:%SZ}' if at else '-':<21}" for at in times)
        project = escape(key.project)
        write(f"{key.prefix:<10}{key.scope:<8}{project:<16}{shown}{escape(key.name)}")
    return 0
