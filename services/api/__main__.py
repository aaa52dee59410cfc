"""The API as a process of its own, and the command that makes its keys.

python -m services.api                        serve
python -m services.api keys create --name me  make an API key
"""

import argparse
import asyncio
import contextlib
import os
import sys

from services.api import CONSUMES, NAME, key_commands
from services.api.config import from_settings
from services.api.server import CannotListen, bind, check_exposure, http_server
from services.api.service import build
from shared.clock import RealClock
from shared.config import BadSetting, Settings
from shared.db import open_database
from shared.program import EXIT_SETTING, Composed, Part, database_login, main
from shared.runtime import Ports

IN_COMPOSE = "docker compose run --rm api"
"""Where compose.yaml publishes the port, the process itself knows only its container's address."""


async def compose(settings: Settings, ports: Ports, stack: contextlib.AsyncExitStack) -> Composed:
    """The API's service and its HTTP server."""
    config = from_settings(
        settings,
        deployment=settings.required("DEPLOYMENT", "production"),
        token_key=settings.required("TOKEN_KEY", "64 random hexadecimal digits"),
    )
    host = settings.text("HOST", "127.0.0.1")
    published = settings.text("PUBLISHED_HOST")
    program = "python -m services.api" if published is None else IN_COMPOSE
    await check_exposure(published or host, ports.db, program)
    try:
        sock = stack.enter_context(bind(host, settings.integer("PORT", 8000, least=1, most=65_535)))
    except CannotListen as error:
        raise BadSetting(str(error)) from None
    api = build(config, ports)
    http = http_server(api.app)

    async def drain() -> None:
        http.stop()
        api.service.drain()

    return [Part(NAME, api.run()), Part("http", http.serve(sockets=[sock]))], drain


async def keys(arguments: argparse.Namespace) -> int:
    """Run a `keys` command."""
    dsn = database_login(Settings(os.environ), NAME)
    db = await open_database(dsn, NAME, RealClock(), connections=2)
    try:
        return await key_commands.run(db, arguments, print)
    finally:
        await db.close()


def run() -> int:
    """The command line; returns the exit status."""
    if sys.argv[1:2] != ["keys"]:
        return main(NAME, CONSUMES, compose)
    arguments = key_commands.parser().parse_args(sys.argv[2:])
    try:
        return asyncio.run(keys(arguments))
    except (BadSetting, OSError) as error:
        print(f"docker-job: {error}", file=sys.stderr)  # noqa: T201 - for a person
        return EXIT_SETTING


if __name__ == "__main__":
    sys.exit(run())
