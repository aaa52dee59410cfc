"""`GET /openapi.json`: the OpenAPI document of this API; it is no secret."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from services.api.http.parameters import read_query


@dataclass(frozen=True)
class DescriptionRoute:
    """The one route."""

    document: bytes

    async def description(self, request: Request) -> Response:
        """Serve the OpenAPI 3.1 document."""
        read_query(request)
        return Response(self.document, media_type="application/json")
