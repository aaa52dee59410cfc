"""`GET /openapi.json`: the OpenAPI document of this API; it is no secret."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response


@dataclass(frozen=True)
class DescriptionRoute:
    """The one route."""

    document: bytes

    async def description(self, _request: Request) -> Response:
        """Serve the OpenAPI 3.1 document."""
        return Response(self.document, media_type="application/json")
