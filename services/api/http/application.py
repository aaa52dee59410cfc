"""The Starlette application with few layers around a route: each costs time in every request.

Starlette's outermost layer answers in plain text and raises again; here it is `Guard`. Starlette
wraps a function as an endpoint in a second exception handler, but not an `Endpoint`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.http.headers import CALL, marked, single_of, trouble_with
from services.api.http.hosts import NO_MORE_HOSTS, AllowedHosts
from services.api.http.responses import malformed, on_crash
from shared.runtime.http_connection import NOSNIFF


class Application(Starlette):
    """Routes and exception handlers; *hosts* checks each request before its route's endpoint."""

    def __init__(
        self,
        routes: Sequence[BaseRoute],
        exception_handlers: Mapping[Any, Any],
        hosts: AllowedHosts = NO_MORE_HOSTS,
    ) -> None:
        super().__init__(routes=routes, exception_handlers=exception_handlers)
        self.hosts = hosts

    def build_middleware_stack(self) -> ASGIApp:
        return Guard(ExceptionMiddleware(self.router, handlers=self.exception_handlers))


@dataclass(frozen=True)
class Endpoint:
    """The endpoint of a route: *serve* answers a request, save one of a foreign web page."""

    serve: Callable[[Request], Awaitable[Response]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hosts: AllowedHosts = scope["app"].hosts
        refusal = hosts.page_refusal(scope)
        if refusal is not None:
            raise refusal
        response = await self.serve(Request(scope, receive, send))
        if scope["method"] == "HEAD" and isinstance(response, StreamingResponse):
            response.body_iterator = _nothing()  # it may take as long as the job
        await response(scope, receive, send)


async def _nothing() -> AsyncIterator[bytes]:
    for chunk in tuple[bytes, ...]():
        yield chunk


class Guard:
    """ASGI middleware around all routes.

    A request with contradictory headers reaches none of them. Each answer has `NOSNIFF`, and one to
    an agent its mark. An unexpected exception of a route becomes a JSON answer and a log line.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False
        single = single_of(scope)
        if CALL in single:
            send = marked(scope, send)

        async def watched(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = message["headers"]
                if NOSNIFF not in headers:
                    headers.append(NOSNIFF)
            await send(message)

        try:
            if (trouble := trouble_with(scope, single)) is not None:
                await malformed(trouble)(scope, receive, watched)
                return
            await self._app(scope, receive, watched)
        except Exception as error:
            if started or scope["type"] != "http":
                raise  # part of an answer is sent: closing the connection signals the error
            response = await on_crash(Request(scope), error)
            await response(scope, receive, watched)
