"""The routes of agents, each with the token of its own attempt."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from services.api.agents import requests
from services.api.agents.agent_file import AgentFile
from services.api.agents.builds import AgentBuilds
from services.api.agents.calls import AgentService
from services.api.agents.claims import ClaimService, Wait
from services.api.agents.refusals import NO_TOKEN, Refused
from services.api.http.addresses import Addresses
from services.api.http.bodies import REPORT_BYTES, SMALL_BYTES, Bodies
from services.api.http.responses import answer, bearer_of, job_id_of

FOREVER = "public, max-age=31536000, immutable"
"""What a hash names never changes."""


@dataclass(frozen=True)
class AgentRoutes:
    """One method a route."""

    service: AgentService
    claims: ClaimService
    bodies: Bodies
    builds: AgentBuilds
    addresses: Addresses

    async def claim(self, request: Request) -> Response:
        """Serve `POST /agent/claim`."""
        bearer, address = bearer_of(request), self.addresses.of(request)
        if bearer is None and self.claims.roles is None:
            raise Refused(401, NO_TOKEN)
        # The body determines the right token: it is read before the check, so it must be small.
        async with self.bodies.read(request, SMALL_BYTES, proven=False) as raw:
            if bearer is None:
                granted = await self.claims.claim_by_role(requests.read_role_claim(raw), address)
            else:
                granted = await self.claims.claim(bearer, requests.read_claim(raw), address)
        if isinstance(granted, Wait):
            wait = {"wait": granted.because, "retry_seconds": granted.retry_seconds}
            return answer(wait | ({"settings": granted.settings} if granted.settings else {}), 202)
        return answer(granted)

    async def agent_file(self, _request: Request) -> Response:
        """Serve `GET /agent/agent.py`: the agent of this release, which is no secret.

        Instances that an earlier release has launched fetch it, and check its hash.
        """
        return _file_answer(self.builds.own, {})

    async def agent_build(self, request: Request) -> Response:
        """Serve `GET /agent/builds/{sha256}`: the agent with that hash, of whichever release."""
        sha256: str = request.path_params["sha256"]
        found = self.builds.known(sha256)
        if found is None:
            address = self.addresses.of(request)
            async with self.service.failures.looking_up(address, sha256.encode()):
                found = await self.builds.find(sha256)
        return _file_answer(found, {"Cache-Control": FOREVER})

    async def report(self, request: Request) -> Response:
        """Serve `POST /agent/jobs/{id}/report`."""
        bearer, job_id = await self._admitted(request)
        async with self.bodies.read(request, REPORT_BYTES) as raw:
            await self.service.report(bearer, job_id, requests.read_report(raw))
        return answer({})

    async def callback(self, request: Request) -> Response:
        """Serve `PUT /callback/{id}`."""
        bearer, job_id = await self._admitted(request)
        # An empty body is refused: a lost body must not count as `{}`, which means "done".
        async with self.bodies.read(request, SMALL_BYTES) as raw:
            job = await self.service.call_back(bearer, job_id, requests.read_callback(raw))
        return answer({"id": job.id, "status": job.status})

    async def _admitted(self, request: Request) -> tuple[str, int]:
        """Check token and job before the body is read: no memory for unauthorized callers."""
        bearer = bearer_of(request)
        if bearer is None:
            raise Refused(401, NO_TOKEN)
        job_id = job_id_of(request)
        await self.service.admit(bearer, job_id, self.addresses.of(request))
        return bearer, job_id


def _file_answer(file: AgentFile, more: dict[str, str]) -> Response:
    headers = {"ETag": f'"{file.sha256}"', "X-Docker-Job-SHA256": file.sha256, **more}
    return Response(file.content, headers=headers, media_type="application/zip")
