"""Around the routes: whatever one raises unforeseen becomes a JSON answer and one log line."""

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.routes.answers import on_crash


class Guard:
    """ASGI middleware, within Starlette's outermost one, which answers in plain text and raises."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            if started or scope["type"] != "http":
                raise  # half an answer is out: only closing the connection tells the truth now
            response = await on_crash(Request(scope), error)
            await response(scope, receive, send)
