"""`GET /jobs/{id}/logs`: the container's log as text, or followed as server-sent events."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from services.api.changes.followers import Followers
from services.api.http.gate import caller_of
from services.api.http.log_events import LogEvents
from services.api.http.log_query import LogQuery, read_log_query
from services.api.http.responses import job_id_of
from services.api.http.sse import DATA_ONLY, Followed
from services.api.jobs import store as job_store
from services.api.jobs.queries import NoSuchJob
from services.api.jobs.retention_store import find_logs_removed
from services.api.keys.caller import Caller
from services.api.logs.bounds import removal_line
from services.api.logs.plain import PlainLog
from services.api.logs.reader import LogPage, LogReader, Start
from services.api.logs.tail import find_tail
from shared.postgres.pool import Connection, Database

TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True)
class LogRoutes:
    """The one route: text or events."""

    db: Database
    followers: Followers

    async def logs(self, request: Request) -> Response:
        """Stream plain text by default; with `?follow=1` events until the job has ended."""
        job_id = job_id_of(request)
        query = read_log_query(request)
        async with self.db.connection() as conn:
            removed_at = await self._check(conn, job_id, query)
            if query.follow:
                return await self._followed(conn, job_id, query, caller_of(request))
            start = await _start(conn, job_id, query)
        if removed_at is None:
            text = self._text(job_id, query, start)
        else:
            text = _removed(removed_at, query)
        return StreamingResponse(text, media_type=TEXT, headers=DATA_ONLY)

    async def _followed(
        self, conn: Connection, job_id: int, query: LogQuery, caller: Caller
    ) -> Response:
        events = LogEvents(self.db, self.followers, job_id, query)
        if query.has_end and await events.has_no_more(conn):
            return Response(status_code=204, headers=DATA_ONLY)
        stream = events.stream(_reader(job_id, query, await _start(conn, job_id, query)))
        return Followed(stream, self.followers.shares, caller.key)

    async def _check(self, conn: Connection, job_id: int, query: LogQuery) -> datetime | None:
        """Return when the log was removed, if it was. Raises `NoSuchJob`."""
        if await job_store.load_job(conn, job_id) is None:
            raise NoSuchJob(f"there is no job {job_id}")
        if query.attempt is not None:
            attempts = await job_store.load_attempts(conn, job_id)
            if query.attempt > len(attempts):
                has = f"attempts 1 to {len(attempts)}" if len(attempts) > 1 else "attempt 1 alone"
                raise NoSuchJob(f"job {job_id} has no attempt {query.attempt}: it has {has}")
        return await find_logs_removed(conn, job_id)

    async def _text(self, job_id: int, query: LogQuery, start: Start) -> AsyncIterator[str]:
        if query.tail == 0:
            return
        reader = _reader(job_id, query, start)
        plain = _plain(query, start.within)
        while True:
            async with self.db.connection() as conn:
                pages = await reader.read(conn)
            if not pages:
                break
            yield plain.feed(pages)
        yield plain.close()


async def _start(conn: Connection, job_id: int, query: LogQuery) -> Start:
    """Find where to begin: after the last event that the client has, or with the last lines."""
    whole = Start(after=(query.attempt or 0, 0))
    if query.follow and query.after is not None:
        return Start(after=max(query.after, whole.after))
    if query.tail is None:
        return whole
    return await find_tail(
        conn, job_id, query.tail, whole=whole, upto=query.upto, stream=query.stream
    )


def _reader(job_id: int, query: LogQuery, start: Start) -> LogReader:
    resumed = query.follow and query.after is not None and start.after[1] > 0
    return LogReader(job_id, start, resumed=resumed, upto=query.upto, stream=query.stream)


def _plain(query: LogQuery, within: int = 0) -> PlainLog:
    return PlainLog(
        timestamps=query.timestamps,
        streams=query.streams,
        within=within,
        only=query.attempt or 0,
    )


async def _removed(at: datetime, query: LogQuery) -> AsyncIterator[str]:
    yield _plain(query).feed([LogPage(0, 0, [removal_line(at)])])
