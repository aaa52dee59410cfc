"""The routes that only an instance uses, each with a token of its own attempt."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from services.api import words
from services.api.agent_file import AgentFile
from services.api.agents import NO_TOKEN, AgentDesk
from services.api.claims import ClaimDesk, Wait
from services.api.config import BodyBounds
from services.api.refused import Refused
from services.api.requests import read_json
from services.api.routes.answers import answer, bearer_of, job_id_of, read_body


@dataclass(frozen=True)
class AgentRoutes:
    """One method a route."""

    desk: AgentDesk
    claims: ClaimDesk
    body: BodyBounds
    file: AgentFile

    async def claim(self, request: Request) -> Response:
        """`POST /agent/claim`."""
        bearer = bearer_of(request)
        if bearer is not None:
            granted = await self.claims.claim(bearer, words.read_claim(await self._body(request)))
        elif self.claims.identity is not None:
            claim = words.read_role_claim(await self._body(request))
            granted = await self.claims.claim_by_role(claim)
        else:
            raise Refused(401, NO_TOKEN)
        if isinstance(granted, Wait):
            return answer({"wait": granted.because, "retry_seconds": granted.retry_seconds}, 202)
        return answer(granted)

    async def agent_file(self, _request: Request) -> Response:
        """`GET /agent/agent.py`: the agent itself, which is no secret; its hash is in user data."""
        headers = {"ETag": f'"{self.file.sha256}"', "X-Docker-Job-SHA256": self.file.sha256}
        return Response(self.file.content, headers=headers, media_type="text/x-python")

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
