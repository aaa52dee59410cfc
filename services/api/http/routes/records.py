"""The routes about finished jobs: remove a record, daily totals."""

import re
from dataclasses import dataclass
from datetime import date, timedelta

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from services.api.http.filters import PROJECT, read_project
from services.api.http.gate import caller_of
from services.api.http.parameters import read_query
from services.api.http.responses import answer, job_id_of
from services.api.jobs import totals
from services.api.jobs.retention_sweeps import RecordService
from services.api.submission.request import BadRequest
from shared.postgres.pool import Database

DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
DEFAULT_DAYS, MOST_DAYS = 30, 366


@dataclass(frozen=True)
class RecordRoutes:
    """One method a route."""

    db: Database
    service: RecordService

    async def remove(self, request: Request) -> Response:
        """Serve `DELETE /jobs/{id}/record`."""
        read_query(request)
        await self.service.remove(job_id_of(request), caller_of(request).actor)
        return Response(status_code=204)

    async def totals(self, request: Request) -> Response:
        """Serve `GET /totals`: the days from `from` to `to`, both included."""
        query = read_query(request, "from", "to", PROJECT)
        project = read_project(query, caller_of(request))
        first, last = _days(query, self.db.clock.now().date())
        async with self.db.connection() as conn:
            return answer(await totals.load_totals(conn, first, last, project))


def _days(query: QueryParams, today: date) -> tuple[date, date]:
    last = _day(query, "to", today)
    try:
        default = last - timedelta(days=DEFAULT_DAYS - 1)
    except OverflowError:
        default = date.min
    first = _day(query, "from", default)
    if not 0 <= (last - first).days < MOST_DAYS:
        raise BadRequest(
            f"from must be a day before to, or the same, and they may span {MOST_DAYS} days"
        )
    return first, last


def _day(query: QueryParams, name: str, default: date) -> date:
    raw = query.get(name)
    if raw is None:
        return default
    try:
        if DAY.fullmatch(raw):
            return date.fromisoformat(raw)
    except ValueError:  # no such day
        pass
    raise BadRequest(f"{name} must be a day (UTC), like 2026-01-31")
