"""`POST /jobs/{id}/rerun`: schedule a job again."""

from dataclasses import dataclass

from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from services.api.http.bodies import Bodies
from services.api.http.gate import caller_of
from services.api.http.idempotency import keyed, read_key
from services.api.http.parameters import read_query
from services.api.http.responses import job_id_of, raw_answer
from services.api.http.settings import HttpConfig
from services.api.jobs.projects import find_project
from services.api.jobs.queries import NoSuchJob
from services.api.keys.caller import Caller
from services.api.submission.intake import Accepted, Intake
from services.api.submission.request import JobRequest, read_json
from services.api.submission.rerun import Reruns
from shared.events.cloudevents import new_trace


@dataclass(frozen=True)
class RerunRoute:
    """The one route."""

    config: HttpConfig
    intake: Intake
    reruns: Reruns
    bodies: Bodies

    async def rerun(self, request: Request) -> Response:
        """Serve it: the body holds the fields that change, or nothing."""
        read_query(request)
        job_id, caller = job_id_of(request), caller_of(request)
        async with self.bodies.read(request) as raw:
            accepted = await self._rerun(job_id, raw, read_key(request), caller)
        headers = {"Location": f"/status/{accepted.job_id}"}
        return raw_answer(accepted.answer, 201, headers)

    async def _rerun(self, job_id: int, raw: bytes, key: str | None, caller: Caller) -> Accepted:
        overrides = read_json(raw) if raw.strip() else {}
        trace = new_trace()
        project = await find_project(self.reruns.db, job_id)

        # Only if the job is to be made: a repeat gets the first answer though the record is gone.
        async def read() -> JobRequest:
            if project is None or caller.sees not in (None, project):
                raise NoSuchJob(f"there is no job {job_id}")
            return await self.reruns.read(job_id, overrides, self.reruns.db.clock.now())

        # In the same project, whoever asks: it has the job's values.
        owner = replace(caller, project=project or caller.project)
        if key is None:
            [accepted] = await self.intake.accept([await read()], trace, owner, job_id)
            return accepted
        # With the path: the same body for another job is another request.
        hashed = keyed(self.config.token_key, f"/jobs/{job_id}/rerun\n".encode() + raw)
        return await self.intake.accept_once(key, hashed, read, trace, owner, job_id)
