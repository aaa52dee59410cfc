"""The gate in front of the users' routes: the caller's key or host, its scope, its rate."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from services.api.http.addresses import Addresses
from services.api.http.hosts import AllowedHosts
from services.api.http.responses import bearer_of
from services.api.keys.access import Access, Denied
from services.api.keys.caller import Caller
from services.api.keys.rates import RateLimit
from services.api.keys.sites import site_of

Endpoint = Callable[[Request], Awaitable[Response]]

_CALLER = "docker_job.caller"


def caller_of(request: Request) -> Caller:
    """Return who sends a request that `Gate.needs` has let pass."""
    caller: Caller = request.scope[_CALLER]
    return caller


@dataclass(frozen=True)
class Gate:
    """Wraps endpoints. *rate* is that of a key, *open_rate* that of an address without keys."""

    access: Access
    rate: RateLimit
    open_rate: RateLimit | None
    hosts: AllowedHosts
    addresses: Addresses

    def needs(self, scope: str, endpoint: Endpoint) -> Endpoint:
        """Require a key that grants *scope*, and a request rate within the limit."""

        async def guarded(request: Request) -> Response:
            address = self.addresses.of(request)
            caller = await self.access.check(bearer_of(request), scope, address)
            refusal = self._refusal(request) if caller.key is None else None
            if refusal is not None:  # there is no key yet
                raise refusal
            if caller.key is not None:
                self.rate.take(f"key/{caller.key}")
            elif self.open_rate is not None:
                self.open_rate.take(f"address/{site_of(address)}")
            request.scope[_CALLER] = caller
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
