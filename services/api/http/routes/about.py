"""`GET /about`: what a client needs to know of this deployment and of its own key."""

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from services.api.config import ApiConfig
from services.api.http.gate import caller_of
from services.api.http.parameters import read_query
from services.api.http.responses import answer
from services.api.http.routes.jobs import MAX_JOBS
from shared.clock import Clock
from shared.version import VERSION


@dataclass(frozen=True)
class AboutRoute:
    """The one route."""

    config: ApiConfig
    clock: Clock

    async def about(self, request: Request) -> Response:
        """Serve it."""
        read_query(request)
        caller = caller_of(request)
        key = {"name": caller.name, "scope": caller.scope, "project": caller.project}
        return answer(
            {
                "version": VERSION,
                "now": self.clock.now(),
                "key": None if caller.key is None else key,
                "compute": self.config.compute,
                "registries_refused": list(self.config.engine.registries.refused),
                "timezone": self.config.bounds.default_timezone,
                "limits": self._limits(has_key=caller.key is not None),
            }
        )

    def _limits(self, *, has_key: bool) -> dict[str, Any]:
        http = self.config.http
        limited = http.requests.per_second > 0 and (has_key or http.limits_open)
        return {
            "max_lifetime_seconds": self.config.bounds.max_lifetime_seconds,
            "jobs_of_a_request": MAX_JOBS,
            "jobs_of_a_page": http.list_page,
            "body_bytes": http.body.size,
            "log_bytes": self.config.agents.agent.log_limit_bytes,
            "requests_per_second": http.requests.per_second if limited else None,
            "requests_at_once": http.requests.at_once if limited else None,
        }
