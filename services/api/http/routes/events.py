"""`GET /events`: the changes of jobs as server-sent events."""

import re
from dataclasses import dataclass

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from services.api.changes.feed import ChangeFeed
from services.api.changes.filters import ChangeFilter
from services.api.changes.followers import Followers
from services.api.changes.store import ChangePosition
from services.api.http.change_events import ChangeEvents
from services.api.http.filters import FILTERS, MANY_FILTERS, read_filters
from services.api.http.gate import caller_of
from services.api.http.parameters import read_query
from services.api.http.sse import Followed, last_event_id
from services.api.jobs.search import LAST_ID
from services.api.submission.request import BadRequest

POSITION = r"^([0-9a-f]{8}\.[0-9]{1,18})?$"
MAX_JOBS = 1000


@dataclass(frozen=True)
class EventRoutes:
    """The one route."""

    feed: ChangeFeed
    followers: Followers

    async def events(self, request: Request) -> Response:
        """Stream the changes from now on, or after the last one that the client has."""
        query = read_query(request, *FILTERS, "after", many=(*MANY_FILTERS, "job"))
        wanted = ChangeFilter(read_filters(query, caller_of(request)), _jobs(query))
        after = _after(request, query)
        if after is None:
            after = await self.feed.begin()
        stream = ChangeEvents(self.feed, self.followers, wanted).stream(after)
        return Followed(stream, self.followers.shares, caller_of(request).key)


def _after(request: Request, query: QueryParams) -> ChangePosition | None:
    """Read the place to continue after: a browser repeats the parameter beside its header."""
    given, name = last_event_id(request), "Last-Event-ID"
    if given is None:
        given, name = query.get("after"), "after"
    if not given:
        return None
    if not re.fullmatch(POSITION, given):
        raise BadRequest(f"{name} must be the id of an event of this stream")
    epoch, _, number = given.partition(".")
    return ChangePosition(epoch, int(number))


def _jobs(query: QueryParams) -> frozenset[int]:
    given = query.getlist("job")
    if len(given) > MAX_JOBS:
        raise BadRequest(f"job is given {len(given)} times: at most {MAX_JOBS} can be followed")
    for each in given:
        if not re.fullmatch("[0-9]{1,19}", each) or not 1 <= int(each) <= LAST_ID:
            raise BadRequest("job must be the id of a job, like job=7")
    return frozenset(map(int, given))
