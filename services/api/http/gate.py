"""The gate in front of the users' routes: the caller's key or host, its scope, its rate."""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Content, Response, StreamingResponse

from services.api.http.addresses import Addresses
from services.api.http.hosts import AllowedHosts
from services.api.http.responses import bearer_of, job_id_of
from services.api.jobs.projects import check_project
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

    def needs(self, scope: str, endpoint: Endpoint, *, checks_project: bool = False) -> Endpoint:
        """Require a key that grants *scope*, and a request rate within the limit.

        A job in the path must be one that the key sees, unless *endpoint* checks that itself.
        """

        async def guarded(request: Request) -> Response:
            address, bearer = self.addresses.of(request), bearer_of(request)
            caller = await self.access.check(bearer, scope, address)
            refusal = self._refusal(request) if caller.key is None else None
            if refusal is not None:  # there is no key yet
                raise refusal
            if caller.key is not None:
                self.rate.take(f"key/{caller.key}")
            elif self.open_rate is not None:
                self.open_rate.take(f"address/{site_of(address)}")
            request.scope[_CALLER] = caller
            if not checks_project:
                await self._check_project(request, caller)
            response = await endpoint(request)
            if isinstance(response, StreamingResponse):
                parts = response.body_iterator
                response.body_iterator = self._while_valid(bearer, address, parts)
            return response

        return guarded

    async def _while_valid(
        self, bearer: str | None, address: str, parts: AsyncIterable[Content]
    ) -> AsyncIterator[Content]:
        """Pass on the parts of an answer; end it before the next one once the key is revoked.

        One that began while there was no key ends once there is one.
        """
        async for part in parts:
            if await self.access.is_refused(bearer, address):
                return
            yield part

    async def _check_project(self, request: Request, caller: Caller) -> None:
        """Raise `NoSuchJob` if the path names a job that *caller* does not see.

        Here for all routes, so that none can forget it; before anything is locked or written, so
        that the answer is that to an unknown id in its time too.
        """
        if caller.sees is not None and "id" in request.path_params:
            await check_project(self.access.db, job_id_of(request), caller.sees)

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
