"""The routes about API keys: make, list, revoke."""

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from services.api.http.bodies import SMALL_BYTES, Bodies
from services.api.http.gate import caller_of
from services.api.http.parameters import read_query
from services.api.http.responses import answer
from services.api.keys.access import SCOPES
from services.api.keys.names import BadName, read_name, read_project
from services.api.keys.service import KeyService, WantedKey
from services.api.submission.request import BadRequest, read_json
from shared.events.requirements import DEFAULT_PROJECT

FIELDS = ("name", "scope", "project")
EXAMPLE = {"name": "nightly reports", "scope": "submit", "project": "data"}


@dataclass(frozen=True)
class KeyRoutes:
    """One method a route."""

    service: KeyService
    bodies: Bodies

    async def create(self, request: Request) -> Response:
        """Serve `POST /keys`: the answer alone ever has the key's text."""
        read_query(request)
        async with self.bodies.read(request, SMALL_BYTES) as raw:
            wanted = read_wanted(read_json(raw))
        created = await self.service.create(wanted, caller_of(request).actor)
        return answer(created, 201, {"Cache-Control": "no-store"})

    async def list_keys(self, request: Request) -> Response:
        """Serve `GET /keys`."""
        read_query(request)
        return answer(await self.service.list_keys())

    async def revoke(self, request: Request) -> Response:
        """Serve `DELETE /keys/{prefix}`."""
        read_query(request)
        await self.service.revoke(request.path_params["prefix"], caller_of(request).actor)
        return Response(status_code=204)


def read_wanted(body: Any) -> WantedKey:
    """Read the body of `POST /keys`. Raises `BadRequest`."""
    if not isinstance(body, dict):
        raise BadRequest('the body must be a JSON object, like {"name": "ci", "scope": "submit"}')
    for name in body:
        if name not in FIELDS:
            raise BadRequest(f"unknown field {name[:40]!r}: use {', '.join(FIELDS)}")
    scope = body.get("scope", "submit")
    if scope not in SCOPES:
        raise BadRequest(f"scope must be one of {', '.join(SCOPES)}")
    try:
        return WantedKey(
            name=read_name(_text(body, "name")),
            scope=scope,
            project=read_project(_text(body, "project", DEFAULT_PROJECT)),
        )
    except BadName as error:
        raise BadRequest(str(error)) from None


def _text(body: dict[str, Any], field: str, default: str | None = None) -> str:
    value = body.get(field, default)
    if value is None and field not in body:
        raise BadRequest(f"{field} is missing: give the owner or the purpose of the key")
    if not isinstance(value, str):
        raise BadRequest(f"{field} must be a text")
    return value
