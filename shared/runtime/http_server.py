"""uvicorn as a part of a program that is composed of several."""

import asyncio
import contextlib
import functools
import socket
from collections.abc import Iterator
from typing import cast

import uvicorn
from starlette.types import ASGIApp

from shared.runtime.http_protocol import BoundedProtocol
from shared.runtime.http_room import BACKLOG, Room
from shared.runtime.tls import Certificate, TlsListener
from shared.url import without_brackets


class HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers: the composed process decides when it stops.

    With a *certificate* it serves TLS alone.
    """

    def __init__(self, config: uvicorn.Config, certificate: Certificate | None = None) -> None:
        super().__init__(config)
        self._certificate = certificate

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; with TLS by listeners of our own (`shared/runtime/tls.py`)."""
        certificate = self._certificate
        if certificate is None:
            await super().startup(sockets)
            return

        def protocol() -> asyncio.Protocol:
            make = self.config.http_protocol_class
            return make(  # type: ignore[call-arg]
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state
            )

        await self.lifespan.startup()
        listeners = [TlsListener(each, certificate, protocol) for each in sockets or ()]
        self.servers = listeners  # type: ignore[assignment]
        self.started = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        """Accept no new requests; `serve` returns when the running ones are answered."""
        self.should_exit = True


def http_server(
    app: ASGIApp,
    protocol: type[BoundedProtocol] = BoundedProtocol,
    *,
    room: Room,
    keep_alive_seconds: int = 5,
    graceful_seconds: int | None = None,
    certificate: Certificate | None = None,
) -> HttpServer:
    """Make a server for *app*; `serve(sockets=[…])` runs it, with TLS if it has a *certificate*.

    Its connections share *room*.

    *graceful_seconds*: the time for running requests at shutdown; None: as long as they take.
    """
    return HttpServer(
        uvicorn.Config(
            app,
            http=cast("type[BoundedProtocol]", functools.partial(protocol, room=room)),
            backlog=BACKLOG,
            ws="none",
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            proxy_headers=False,  # any client can send them
            timeout_keep_alive=keep_alive_seconds,
            timeout_graceful_shutdown=graceful_seconds,
        ),
        certificate,
    )


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket on *host*, a name or an address of either IP version.

    Raises OSError. On Linux `::` is every address of IPv4 too.
    """
    host = without_brackets(host)
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)  # with the zone of a link-local one, fe80::1%eth0
        bound.listen(BACKLOG)
    except OSError:
        bound.close()
        raise
    return bound
