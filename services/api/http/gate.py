"""The gate in front of the users' routes: the caller's key or host, its scope, its rate."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from services.api.http.hosts import AllowedHosts
from services.api.http.responses import bearer_of
from services.api.keys.access import Access, Denied, RateLimit

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Gate:
    """Wraps endpoints."""

    access: Access
    rate: RateLimit
    hosts: AllowedHosts

    def needs(self, scope: str, endpoint: Endpoint) -> Endpoint:
        """Require a key that grants *scope*, and a request rate within the limit."""

        async def guarded(request: Request) -> Response:
            caller = await self.access.check(bearer_of(request), scope)
            refusal = None if caller else self._refusal(request)
            if refusal is not None:  # no caller: there is no key yet
                raise refusal
            address = request.client.host if request.client else ""
            self.rate.take(caller or address)
            return await endpoint(request)

        return guarded

    def needs_no_key(self, endpoint: Endpoint) -> Endpoint:
        """Require no key; while there is none, refuse web pages of other origins."""

        async def guarded(request: Request) -> Response:
            refusal = self._refusal(request)
            if refusal is not None and not await self.access.has_keys():
                raise refusal
            return await endpoint(request)

        return guarded

    def _refusal(self, request: Request) -> Denied | None:
        return self.hosts.refusal(request.scope.get("scheme", "http"), request.headers)
