"""`/healthz` and `/readyz` of a service that has no other HTTP server."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from shared.runtime.http_room import Room
from shared.runtime.http_server import http_server, listen
from shared.runtime.readiness import Readiness, answer
from shared.settings import PREFIX, BadSetting, Settings

CONNECTIONS = 100
BUFFERED_BYTES = 2_097_152
"""The bounds of connections, see `http_room.py`: a probe sends a few hundred bytes."""


def bind_health(settings: Settings) -> socket.socket | None:
    """Bind `DOCKER_JOB_HEALTH_PORT`; None without one. Raises `BadSetting`."""
    port = settings.integer("HEALTH_PORT", 0, least=0, most=65_535)
    if port == 0:
        return None
    host = settings.text("HEALTH_HOST", "127.0.0.1")
    try:
        return listen(host, port)
    except OSError as error:
        raise BadSetting(
            f"{PREFIX}HEALTH_PORT is {port}: cannot listen on {host} ({error.strerror}); choose "
            "a port that is free"
        ) from error


async def serve_health(
    sock: socket.socket, look: Callable[[], Awaitable[Readiness]], stop: asyncio.Event
) -> None:
    """Serve on *sock* until *stop* is set."""

    async def healthz(_request: Request) -> Response:
        return _as_json(200, {"status": "alive"})

    async def readyz(_request: Request) -> Response:
        return _as_json(*answer(await look()))

    app = Starlette(
        routes=[Route("/healthz", healthz), Route("/readyz", readyz)],
        exception_handlers={HTTPException: _on_error},
    )
    app.router.redirect_slashes = False  # to whatever host the request's Host names
    server = http_server(app, room=Room(CONNECTIONS, BUFFERED_BYTES))
    serving = asyncio.ensure_future(server.serve(sockets=[sock]))
    await asyncio.wait(
        {serving, stopping := asyncio.ensure_future(stop.wait())},
        return_when=asyncio.FIRST_COMPLETED,
    )
    stopping.cancel()
    server.stop()
    await serving


async def _on_error(request: Request, error: Exception) -> Response:
    """Answer a path or a method that this server does not have."""
    if not isinstance(error, HTTPException):
        raise error
    path = request.scope["path"]
    message = f"Not found: {path}" if error.status_code == 404 else str(error.detail)
    response = _as_json(error.status_code, {"message": message})
    response.headers.update(error.headers or {})
    return response


def _as_json(status: int, body: dict[str, object]) -> Response:
    headers = {"X-Content-Type-Options": "nosniff"}
    if status == 503:
        headers["Retry-After"] = "1"
    content = msgspec.json.encode(body) + b"\n"
    return Response(content, status, headers, media_type="application/json")
