"""The API as a process, and the commands for its keys.

python -m services.api                        serve
python -m services.api keys create --name me  make an API key
"""

import argparse
import asyncio
import contextlib
import functools
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.api import CONSUMES, NAME
from services.api.config import ApiConfig, from_settings
from services.api.http.plain import PlainHttp, for_agents_until, read_plain
from services.api.http.server import (
    CannotListen,
    bind_for_each,
    check_exposure,
    http_server,
    room_of,
)
from services.api.keys import commands as key_commands
from services.api.processes import workers
from services.api.processes.siblings import Siblings
from services.api.service import Api, build
from shared.adapters import have_role, open_bus
from shared.clock import RealClock
from shared.log import get_logger, mask
from shared.postgres.pool import is_not_ours, is_transient, open_database
from shared.runtime.http_server import HttpServer
from shared.runtime.process import Composed, Part, configure_log, database_login, main
from shared.runtime.service import Ports
from shared.runtime.tls import Certificate, read_certificate
from shared.settings import EXIT_SETTING, PREFIX, BadSetting, Settings
from shared.terminal import print_line

SQL = Path(__file__).parent / "sql"

IN_COMPOSE = "docker compose run --rm api"
"""Under compose.yaml the process knows only its container's address, not the published one."""


@dataclass(frozen=True)
class Inherited:
    """The objects that a process of the API inherits from its parent."""

    sock: socket.socket
    plain_sock: socket.socket | None
    """Of plain HTTP beside TLS."""

    siblings: Siblings

    @property
    def sockets(self) -> list[socket.socket]:
        """The sockets to listen on."""
        return [self.sock, *([self.plain_sock] if self.plain_sock else [])]


async def compose(
    settings: Settings, ports: Ports, _stack: contextlib.AsyncExitStack, inherited: Inherited
) -> Composed:
    """Compose the API's service and its HTTP server."""
    host, published = _host(settings), settings.text("PUBLISHED_HOST")
    program = "python -m services.api" if published is None else IN_COMPOSE
    await check_exposure(published or host, ports.db, program)
    api = build(_config(settings), ports, inherited.siblings)
    servers = _servers(settings, api, inherited.siblings.count)

    async def drain() -> None:
        for http in servers:
            http.stop()
        api.service.drain()

    serving = [
        Part("http", http.serve(sockets=[sock]))
        for http, sock in zip(servers, inherited.sockets, strict=True)
    ]
    return [Part(NAME, api.run()), *serving], drain


def _servers(settings: Settings, api: Api, processes: int) -> list[HttpServer]:
    """Make the servers of `Inherited.sockets`. Raises `BadSetting`."""
    certificate = _certificate(settings)
    room = room_of(api.config.http, processes)
    servers = [http_server(api.app, room=room, certificate=certificate)]
    plain = read_plain(settings, tls=certificate is not None)
    if plain is not None:
        app = api.app if plain.until is None else for_agents_until(api.app, plain.until)
        servers.append(http_server(app, room=room))
    return servers


def _certificate(settings: Settings) -> Certificate | None:
    """Read the certificate. Raises `BadSetting`, also if agents would be sent to plain HTTP."""
    certificate, url = read_certificate(settings), settings.text("API_URL", "")
    plain = settings.text("PLAIN_HTTP")
    if certificate is not None and url.startswith("http:") and not plain:
        raise BadSetting(
            f"{PREFIX}API_URL is {url}: with {PREFIX}TLS_CERTIFICATE_FILE agents reach the API by "
            "https://, at a name of the certificate"
        )
    return certificate


def _host(settings: Settings) -> str:
    return settings.text("HOST", "127.0.0.1")


def _config(settings: Settings) -> ApiConfig:
    return from_settings(
        settings,
        deployment=settings.required("DEPLOYMENT", "production"),
        token_key=settings.required("TOKEN_KEY", "64 random hexadecimal digits"),
        have_role=have_role(settings.text("COMPUTE_URL", ""), os.environ),
    )


def serve(settings: Settings) -> int:
    """Serve until a signal comes, in the configured number of processes. Raises `BadSetting`."""
    configure_log(settings)
    count = workers.process_count(settings)
    config = _config(settings)  # a bad setting is reported once, not by each process
    port = settings.integer("PORT", 8000, least=1, most=65_535)
    plain = read_plain(settings, tls=_certificate(settings) is not None)
    try:
        sockets = bind_for_each(_host(settings), port, count)
        beside = _bind_plain(settings, plain, count)
    except CannotListen as error:
        raise BadSetting(str(error)) from None
    for line in config.engine.described():
        get_logger(service=NAME).info(line)
    siblings = Siblings(count)
    inherited = [Inherited(*pair, siblings) for pair in zip(sockets, beside, strict=True)]
    programs = [functools.partial(_serve_at, each, inherited) for each in inherited]
    every = [sock for each in inherited for sock in each.sockets]
    return programs[0]() if count == 1 else workers.run_all(programs, every)


def _bind_plain(
    settings: Settings, plain: PlainHttp | None, count: int
) -> Sequence[socket.socket | None]:
    """Bind the second port, if there is one. Raises `CannotListen`."""
    return bind_for_each(_host(settings), plain.port, count) if plain else [None] * count


def _serve_at(inherited: Inherited, of_all: Sequence[Inherited]) -> int:
    for other in of_all:
        if other is not inherited:  # otherwise it would still listen after its own process stops
            for sock in other.sockets:
                sock.close()
    return main(NAME, CONSUMES, functools.partial(compose, inherited=inherited), open_bus, SQL)


async def keys(arguments: argparse.Namespace) -> int:
    """Run a `keys` command: its output alone is on standard output, what it logs is not."""
    settings = Settings(os.environ)
    configure_log(settings)
    dsn = database_login(settings, NAME)
    db = await open_database(dsn, NAME, RealClock(), connections=2)
    try:
        return await key_commands.run(db, arguments, print_line)
    finally:
        await db.close()


def run() -> int:
    """Run the command line; return the exit status."""
    try:
        if sys.argv[1:2] != ["keys"]:
            return serve(Settings(os.environ))
        return asyncio.run(keys(key_commands.parser().parse_args(sys.argv[2:])))
    except (BadSetting, OSError) as error:
        print_line(f"docker-job {NAME}: {error}", error=True)
        return EXIT_SETTING
    except Exception as error:
        if not (is_transient(error) or is_not_ours(error)):
            raise
        message = f"this is not the database of docker-job, or it is unavailable: {error}"
        print_line(f"docker-job {NAME}: {mask(message)}", error=True)
        return EXIT_SETTING


if __name__ == "__main__":
    sys.exit(run())
