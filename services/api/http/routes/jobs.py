"""The users' routes about jobs: schedule, status, cancel."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from services.api.http.bodies import Bodies
from services.api.http.gate import caller_of
from services.api.http.idempotency import keyed, read_key
from services.api.http.parameters import read_query
from services.api.http.responses import answer, job_id_of, raw_answer
from services.api.http.settings import HttpConfig
from services.api.jobs.queries import JobService
from services.api.jobs.views import shown_to
from services.api.keys.caller import Caller
from services.api.submission.intake import Intake
from services.api.submission.request import BadRequest, Bounds, JobRequest, read_job, read_json
from shared.events.cloudevents import new_trace
from shared.postgres.pool import Database

MAX_JOBS = 1000


@dataclass(frozen=True)
class JobRoutes:
    """One method a route."""

    config: HttpConfig
    bounds: Bounds
    db: Database
    intake: Intake
    service: JobService
    bodies: Bodies

    async def schedule(self, request: Request) -> Response:
        """Serve `POST /schedule`: one job, or an array of them, all or none."""
        read_query(request)
        async with self.bodies.read(request) as raw:
            return await self._schedule(request, raw)

    async def _schedule(self, request: Request, raw: bytes) -> Response:
        body = read_json(raw)
        key = read_key(request)
        trace, now, caller = new_trace(), self.db.clock.now(), caller_of(request)
        if isinstance(body, list):
            return await self._schedule_many(body, key, trace, now, caller)
        if key is None:
            [accepted] = await self.intake.accept([self._read(body, now)], trace, caller)
        else:

            async def read() -> JobRequest:
                return self._read(body, now)

            hashed = keyed(self.config.token_key, raw)
            accepted = await self.intake.accept_once(key, hashed, read, trace, caller)
        headers = {"Location": f"/status/{accepted.job_id}"}
        return raw_answer(accepted.answer, 201, headers)

    async def _schedule_many(
        self, body: list[Any], key: str | None, trace: str, now: datetime, caller: Caller
    ) -> Response:
        if key is not None:
            raise BadRequest("Idempotency-Key goes with a single job, not with an array")
        if not 1 <= len(body) <= MAX_JOBS:
            raise BadRequest(f"an array must hold 1 to {MAX_JOBS} jobs, this one has {len(body)}")
        job_requests = []
        for place, each in enumerate(body):
            if not isinstance(each, dict):
                raise BadRequest(f"job [{place}]: it must be a JSON object; none was scheduled")
            try:
                job_requests.append(self._read(each, now))
            except BadRequest as error:
                raise BadRequest(f"job [{place}]: {error}; none was scheduled") from None
        accepted = await self.intake.accept(job_requests, trace, caller)
        return raw_answer(b"[" + b",".join(each.answer for each in accepted) + b"]", 201)

    def _read(self, body: Any, now: datetime) -> JobRequest:
        return read_job(body, now, self.bounds)

    async def status(self, request: Request) -> Response:
        """Serve `GET /status/{id}`."""
        read_query(request)
        return self._answer(request, await self.service.status(job_id_of(request)))

    async def cancel(self, request: Request) -> Response:
        """Serve `DELETE /jobs/{id}`."""
        read_query(request)
        by = caller_of(request).actor
        return self._answer(request, await self.service.cancel(job_id_of(request), by))

    def _answer(self, request: Request, shown: dict[str, Any]) -> Response:
        return answer(shown_to(shown, values=caller_of(request).reads_values))
