"""`GET /quotas`: what may run at once and cost a day, and what is used of that."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from services.api.http.gate import caller_of
from services.api.http.parameters import read_query
from services.api.http.responses import answer
from services.api.quotas.view import QuotaService


@dataclass(frozen=True)
class QuotasRoute:
    """The one route."""

    service: QuotaService

    async def quotas(self, request: Request) -> Response:
        """Serve it."""
        read_query(request)
        return answer(await self.service.show(caller_of(request)))
