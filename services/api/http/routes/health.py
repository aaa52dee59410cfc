"""`GET /healthz` and `GET /readyz`."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from services.api.http.responses import answer
from shared.bus.port import Bus
from shared.postgres.pool import Database


@dataclass(frozen=True)
class HealthRoutes:
    """Alive, and ready."""

    db: Database
    bus: Bus

    async def healthz(self, _request: Request) -> Response:
        """The process answers: nothing more is claimed."""
        return answer({"status": "alive"})

    async def readyz(self, _request: Request) -> Response:
        """200 where database and bus answer; 503 names the one that does not."""
        parts = {"database": await self.db.ready(), "bus": await self.bus.ready()}
        missing = [name for name, ready in parts.items() if not ready]
        if missing:
            message = f"not ready: {' and '.join(missing)} cannot be reached"
            return answer({"status": "not ready", "message": message, "missing": missing}, 503)
        return answer({"status": "ready"})
