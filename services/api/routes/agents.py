"""The routes that only an instance uses, each with a token of its own attempt."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from services.api import words
from services.api.agents import NO_TOKEN, AgentDesk, Refused
from services.api.claims import ClaimDesk, Wait
from services.api.config import BodyBounds
from services.api.requests import read_json
from services.api.routes.answers import answer, bearer_of, job_id_of, read_body


@dataclass(frozen=True)
class AgentRoutes:
    """One method a route."""

    desk: AgentDesk
    claims: ClaimDesk
    body: BodyBounds

    async def claim(self, request: Request) -> Response:
        """`POST /agent/claim`."""
        bearer = bearer_of(request)
        if bearer is None:
            raise Refused(401, NO_TOKEN)
        claim = words.read_claim(await self._body(request))
        granted = await self.claims.claim(bearer, claim)
        if isinstance(granted, Wait):
            return answer({"wait": granted.because, "retry_seconds": granted.retry_seconds}, 202)
        return answer(granted)

    async def report(self, request: Request) -> Response:
        """`POST /agent/jobs/{id}/report`."""
        if bearer_of(request) is None:
            raise Refused(401, NO_TOKEN)
        report = words.read_report(await self._body(request))
        await self.desk.report(bearer_of(request), job_id_of(request), report)
        return answer({})

    async def callback(self, request: Request) -> Response:
        """`PUT /callback/{id}`."""
        if bearer_of(request) is None:
            raise Refused(401, NO_TOKEN)  # before the body is read: a stranger learns nothing
        word = words.read_callback(await self._body(request))
        job = await self.desk.call_back(bearer_of(request), job_id_of(request), word)
        return answer({"id": job.id, "status": job.status})

    async def _body(self, request: Request) -> object:
        # An empty body is refused: what was lost on the way must not count as `{}`, which is
        # "done".
        return read_json(await read_body(request, self.body))
