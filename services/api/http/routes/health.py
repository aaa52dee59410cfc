"""`GET /healthz` and `GET /readyz`."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from services.api.http.responses import answer
from shared.bus.port import Bus
from shared.postgres.pool import Database


@dataclass(frozen=True)
class HealthRoutes:
    """Liveness and readiness."""

    db: Database
    bus: Bus

    async def healthz(self, _request: Request) -> Response:
        """Answer that the process is alive, and no more."""
        return answer({"status": "alive"})

    async def readyz(self, _request: Request) -> Response:
        """Answer 200 if database and bus answer; a 503 names those that do not."""
        parts = {"database": await self.db.ready(), "bus": await self.bus.ready()}
        missing = [name for name, ready in parts.items() if not ready]
        if missing:
            message = f"not ready: {' and '.join(missing)} cannot be reached"
            return answer({"status": "not ready", "message": message, "missing": missing}, 503)
        return answer({"status": "ready"})
