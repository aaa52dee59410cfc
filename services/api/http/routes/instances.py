"""`GET /instances`: what runs now, for which job, and at which price."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from services.api.http.filters import PROJECT, read_project
from services.api.http.gate import caller_of
from services.api.http.parameters import read_query
from services.api.http.responses import answer
from services.api.http.settings import HttpConfig
from services.api.jobs import instances
from services.api.jobs.instances import Place
from services.api.submission.request import BadRequest
from shared.postgres.pool import Database

CURSOR = r"^[0-9]{1,17}-[0-9]{1,18}-[0-9]{1,9}$"
_CURSOR = re.compile(r"([0-9]{1,17})-([0-9]{1,18})-([0-9]{1,9})")
_BEGINNING = datetime.fromtimestamp(0, UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class InstancesRoute:
    """The one route."""

    config: HttpConfig
    db: Database

    async def instances(self, request: Request) -> Response:
        """Serve it, a page at a time, the oldest instance first."""
        query = read_query(request, "limit", "cursor", PROJECT)
        project = read_project(query, caller_of(request))
        limit, after = _limit(query, self.config.list_page), _place(query)
        async with self.db.connection() as conn:
            page = await instances.list_instances(
                conn, self.db.clock.now(), after, limit + 1, project
            )
        headers = {}
        if len(page) > limit:
            page = page[:limit]
            following = {name: query[name] for name in (PROJECT,) if name in query}
            following |= {"limit": str(limit), "cursor": _cursor(page[-1].place)}
            headers["Link"] = f'</instances?{urlencode(following)}>; rel="next"'
        return answer(page, headers=headers)


def _limit(query: QueryParams, most: int) -> int:
    raw = query.get("limit", str(most))
    if not re.fullmatch("[0-9]{1,9}", raw) or not 1 <= int(raw) <= most:
        raise BadRequest(f"limit must be a whole number from 1 to {most}")
    return int(raw)


def _cursor(place: Place) -> str:
    return f"{(place.since - _BEGINNING) // _MICROSECOND}-{place.job_id}-{place.attempt}"


def _place(query: QueryParams) -> Place:
    raw = query.get("cursor")
    if raw is None:
        return Place(_BEGINNING, 0, 0)
    found = _CURSOR.fullmatch(raw)
    if found is None:
        raise BadRequest("cursor must be that of a Link header of this route")
    micros, job_id, attempt = map(int, found.groups())
    return Place(_BEGINNING + micros * _MICROSECOND, job_id, attempt)
