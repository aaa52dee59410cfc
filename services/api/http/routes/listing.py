"""The route of the list of jobs."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import msgspec
from msgspec.structs import replace
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from services.api.http.filters import (
    FILTERS,
    MANY_FILTERS,
    TIMES,
    read_filters,
    read_order,
)
from services.api.http.gate import caller_of
from services.api.http.parameters import read_query
from services.api.http.responses import answer
from services.api.http.settings import HttpConfig
from services.api.http.times import read_time
from services.api.jobs import search, views
from services.api.jobs.filters import Filters, Order
from services.api.jobs.queries import JobService
from services.api.jobs.search import LAST_ID, START, Page, Position
from services.api.keys.caller import Caller
from services.api.submission.request import BadRequest
from shared.postgres.pool import Database

STREAM_PAGE = 500

_encoder = msgspec.json.Encoder()
_EPOCH = datetime.fromtimestamp(0, UTC)
_FINISHED = re.compile(r"(\d{1,18})-(\d{1,19})", re.ASCII)


@dataclass(frozen=True)
class ListRoute:
    """`GET /list`."""

    config: HttpConfig
    db: Database
    service: JobService

    async def list_jobs(self, request: Request) -> Response:
        """Serve `GET /list`: newest first, a page at a time, or all of them as a stream."""
        query = read_query(request, "limit", "cursor", *FILTERS, *TIMES, many=MANY_FILTERS)
        now, caller = self.db.clock.now(), caller_of(request)
        filters = replace(
            read_filters(query, caller),
            since=read_time(query, "since", now),
            until=read_time(query, "until", now),
            by=read_order(query),
        )
        start = _position(query, filters.by)
        if query.get("limit") == "all":
            stream = self._stream(filters, start, caller)
            return StreamingResponse(stream, media_type="application/json")
        limit = _whole(query, "limit", self.config.list_page, self.config.list_page)
        async with self.db.connection() as conn:
            page = await search.list_jobs(conn, filters, limit, start)
        headers = {}
        if page.end is not None:
            following = [(k, v) for k, v in query.multi_items() if k != "cursor"]
            following.append(("cursor", _cursor(page.end)))
            headers["Link"] = f'</list?{urlencode(following)}>; rel="next"'
        return answer(self._shown(page, caller), headers=headers)

    def _shown(self, page: Page, caller: Caller) -> list[dict[str, Any]]:
        now, trouble = self.db.clock.now(), self.service.trouble()
        return [
            views.shown_to(views.listed(each, now, trouble), values=caller.reads_values)
            for each in page.jobs
        ]

    async def _stream(
        self, filters: Filters, start: Position, caller: Caller
    ) -> AsyncIterator[bytes]:
        """Stream every job that matches, from *start* on, with one page in memory at a time.

        Pages rather than a cursor, so that a slow reader holds no transaction open.
        """
        opening, end = b"[", start
        while True:
            async with self.db.connection() as conn:
                page = await search.list_jobs(conn, filters, STREAM_PAGE, end)
            shown = [_encoder.encode(each) for each in self._shown(page, caller)]
            if shown:
                yield opening + b",\n".join(shown)
                opening = b",\n"
            if page.end is None:
                break
            end = page.end
        yield b"[]\n" if opening == b"[" else b"]\n"


def _cursor(end: Position) -> str:
    """Write *end*, of a page by finish in microseconds since 1970 and an id."""
    if end.at is None:
        return str(end.before)
    return f"{(end.at - _EPOCH) // timedelta(microseconds=1)}-{end.before}"


def _position(query: QueryParams, by: Order) -> Position:
    raw = query.get("cursor")
    if raw is None:
        return START
    if by == "created":
        return Position(_whole(query, "cursor", LAST_ID, LAST_ID))
    found = _FINISHED.fullmatch(raw)
    if found and int(found[2]) <= LAST_ID:
        try:
            return Position(int(found[2]), _EPOCH + timedelta(microseconds=int(found[1])))
        except OverflowError:
            pass
    raise BadRequest("cursor must be that of the Link of the page before, which has by=finished")


def _whole(query: QueryParams, name: str, default: int, most: int) -> int:
    raw = query.get(name)
    if raw is None:
        return default
    if not raw.isascii() or not raw.isdecimal() or len(raw) > 19 or not 1 <= int(raw) <= most:
        also = ", or 'all'" if name == "limit" else ""
        raise BadRequest(f"{name} must be a whole number from 1 to {most}{also}")
    return int(raw)
