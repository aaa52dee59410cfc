"""The gate before the routes that people use: the caller's key, its scope, its rate."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from services.api.access import Access, RateLimit
from services.api.routes.answers import bearer_of

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Gate:
    """Wraps endpoints."""

    access: Access
    rate: RateLimit

    def needs(self, scope: str, endpoint: Endpoint) -> Endpoint:
        """*endpoint*, for callers whose key grants *scope* and who do not ask too often."""

        async def guarded(request: Request) -> Response:
            caller = await self.access.check(bearer_of(request), scope)
            address = request.client.host if request.client else ""
            self.rate.take(caller or address)
            return await endpoint(request)

        return guarded
