"""`GET /healthz` and `GET /readyz`."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from services.api.http.responses import answer
from shared.runtime import readiness
from shared.runtime.readiness import Readiness


@dataclass(frozen=True)
class HealthRoutes:
    """Liveness and readiness; *look* looks at database, broker and queues.

    *paused* returns why launches are paused, or None.
    """

    look: Callable[[], Awaitable[Readiness]]
    paused: Callable[[], Awaitable[str | None]]

    async def healthz(self, _request: Request) -> Response:
        """Answer that the process is alive, and no more."""
        return answer({"status": "alive"})

    async def readyz(self, _request: Request) -> Response:
        """Answer 200 if the database works; a 503 names what is wrong.

        Without the broker jobs are accepted and their events wait, so a load balancer must keep
        this API: it is named as degraded. So is a pause of launching (`jobs.breaker`).
        """
        found = await self.look()
        if "database" not in found.troubles:
            paused = await self.paused()
            if paused is not None:
                both = "; ".join(filter(None, (found.degraded.get("launches"), paused)))
                found = replace(found, degraded={**found.degraded, "launches": both})
        status, body = readiness.answer(found, serves_without_bus=True)
        return answer(body, status)
