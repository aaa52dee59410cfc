"""The API's HTTP server: uvicorn on a socket that is bound before anything else is started."""

import socket

from starlette.types import ASGIApp

from services.api.http.hosts import canonical, is_loopback
from services.api.http.settings import HttpConfig
from services.api.keys import store as key_store
from shared.log import get_logger
from shared.postgres.pool import Database
from shared.postgres.waiting import wait_for_database
from shared.runtime.http_protocol import BoundedProtocol
from shared.runtime.http_room import Room
from shared.runtime.http_server import HttpServer, listen
from shared.runtime.http_server import http_server as http_server_for
from shared.runtime.tls import Certificate
from shared.settings import PREFIX, BadSetting

KEEP_ALIVE_SECONDS = 310
"""Longer than the load balancer keeps a connection (`deploy/template.yaml`: 300 s): else it sends a
request into one that is being closed here, and answers 502."""

GRACEFUL_SECONDS = 3
"""The time for running requests at shutdown. Followers of logs are cut then; they reconnect."""


class CannotListen(Exception):
    """The address is unavailable. The message is one sentence for operators."""


def bind(host: str, port: int) -> socket.socket:
    """Open a listening socket on *host*:*port*. Raises `CannotListen`."""
    try:
        bound = listen(host, port)
    except OSError as error:
        raise CannotListen(
            f"Cannot listen on {host} port {port}: {(error.strerror or str(error)).lower()}. "
            "Set DOCKER_JOB_PORT (and DOCKER_JOB_HOST) to an address that is free."
        ) from error
    bound.set_inheritable(False)  # an agent must not keep the port
    return bound


def bind_for_each(host: str, port: int, count: int) -> list[socket.socket]:
    """Bind *count* sockets to the same address, for processes that share its connections.

    They do not listen yet: clients are refused until a process can answer. Raises `CannotListen`.
    """
    with bind(host, port) as alone:  # SO_REUSEPORT below would share it with other programs too
        address = alone.getsockname()
        family = alone.family
    sockets = []
    for _ in range(count):
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
        sockets.append(sock)
    return sockets


async def check_exposure(host: str, db: Database, program: str) -> None:
    """Refuse to serve without an API key on an address that is not loopback.

    Waits for a database that cannot be asked now. Raises `BadSetting` with the command that makes
    one: *program* and `keys create`.
    """
    if is_loopback(canonical(host)):
        return
    if await wait_for_database(lambda: _any_good_key(db), get_logger(service="api", part="http")):
        return
    raise BadSetting(
        f"{PREFIX}HOST is {host}, which others can reach, and there is no API key: make one first "
        f"({program} keys create --name me --scope admin), or listen on 127.0.0.1"
    )


async def _any_good_key(db: Database) -> bool:
    async with db.connection() as conn:
        return await key_store.any_good_key(conn)


def http_server(
    app: ASGIApp,
    protocol: type[BoundedProtocol] = BoundedProtocol,
    *,
    room: Room | None = None,
    certificate: Certificate | None = None,
) -> HttpServer:
    """Make a server for *app*; `serve(sockets=[…])` runs it, with TLS if it has a *certificate*.

    Its connections share *room*.
    """
    return http_server_for(
        app,
        protocol,
        room=room or Room(),
        keep_alive_seconds=KEEP_ALIVE_SECONDS,
        graceful_seconds=GRACEFUL_SECONDS,
        certificate=certificate,
    )


def room_of(config: HttpConfig, processes: int = 1) -> Room:
    """Make the room of one of *processes*: what they buffer is half of what bodies may hold."""
    return Room(config.connections, config.body.total // 2, processes)
