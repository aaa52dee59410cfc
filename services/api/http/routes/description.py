"""`GET /openapi.json`: what this API is, for machines; it is no secret."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response


@dataclass(frozen=True)
class DescriptionRoute:
    """The one route."""

    document: bytes

    async def description(self, _request: Request) -> Response:
        """OpenAPI 3.1."""
        return Response(self.document, media_type="application/json")
