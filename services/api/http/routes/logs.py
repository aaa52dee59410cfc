"""`GET /jobs/{id}/logs`: the container's log as text, or followed as server-sent events."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from services.api.http.parameters import read_query
from services.api.http.responses import job_id_of
from services.api.jobs import store as job_store
from services.api.jobs.model import TERMINAL
from services.api.jobs.queries import NoSuchJob
from services.api.jobs.retention_store import find_logs_removed
from services.api.logs.followers import Followers
from services.api.logs.reader import LogPage, LogReader, Place
from services.api.submission.request import BadRequest
from shared.postgres.pool import Database

KEEP_ALIVE_SECONDS = 15.0
POLL_SECONDS = 2.0
"""A follower is woken by this API's own changes; polling finds those of replicas elsewhere."""

FOLLOW = {"1": True, "true": True, "0": False, "false": False}


@dataclass(frozen=True)
class LogRoutes:
    """The one route: text or events."""

    db: Database
    followers: Followers

    async def logs(self, request: Request) -> Response:
        """Stream plain text by default; with `?follow=1` events until the job has ended."""
        query = read_query(request, "follow")
        job_id = job_id_of(request)
        async with self.db.connection() as conn:
            if await job_store.load_job(conn, job_id) is None:
                raise NoSuchJob(f"there is no job {job_id}")
            removed_at = await find_logs_removed(conn, job_id)
        after = _place(request.headers.get("last-event-id", "0.0"))
        if not _follows(query):
            text = self._text(job_id) if removed_at is None else _removed(removed_at)
            return StreamingResponse(text, media_type="text/plain; charset=utf-8")
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        self.followers.check_room()  # an answer that has begun cannot refuse any more
        return StreamingResponse(
            self._events(job_id, after), media_type="text/event-stream", headers=headers
        )

    async def _text(self, job_id: int) -> AsyncIterator[str]:
        reader = LogReader(job_id)
        while pages := await self._read(reader):
            yield "".join(f"{text}\n" for page in pages for _, _, text in page.lines)

    async def _read(self, reader: LogReader) -> list[LogPage]:
        async with self.db.connection() as conn:
            return await reader.read(conn)

    async def _events(self, job_id: int, after: Place) -> AsyncIterator[str]:
        """Stream lines as they come. The status is read before the lines: none is missed."""
        reader = LogReader(job_id, after)
        quiet = 0.0
        with self.followers.follow(job_id) as changed:
            while True:
                changed.clear()
                async with self.db.connection() as conn:
                    job = await job_store.load_job(conn, job_id)
                while pages := await self._read(reader):
                    quiet = 0.0
                    yield "".join(_event(page) for page in pages)
                if job is None or job.status in TERMINAL:
                    break
                if quiet >= KEEP_ALIVE_SECONDS:
                    yield ": still here\n\n"
                    quiet = 0.0
                quiet += POLL_SECONDS
                await _either(changed, POLL_SECONDS)
        last = {"status": job.status, "exit_code": job.exit_code} if job else {}
        yield f"event: end\ndata: {msgspec.json.encode(last).decode()}\n\n"


async def _removed(at: datetime) -> AsyncIterator[str]:
    yield f"--- this log was removed on {at:%Y-%m-%d} ---\n"


def _event(page: LogPage) -> str:
    """Render a page as one event: its id is the place to resume from, each line a `data` line."""
    data = "".join(
        f"data: {msgspec.json.encode({'at': at, 'stream': stream, 'text': text}).decode()}\n"
        for at, stream, text in page.lines
    )
    return f"id: {page.attempt}.{page.seq}\n{data}\n" if data else ""


def _follows(query: QueryParams) -> bool:
    raw = query.get("follow", "0")
    if raw not in FOLLOW:
        raise BadRequest("follow must be 1 or 0: 1 streams until the job has ended")
    return FOLLOW[raw]


def _place(raw: str) -> Place:
    attempt, _, seq = raw.partition(".")
    if not (attempt.isdecimal() and seq.isdecimal() and len(raw) < 20):
        raise BadRequest("Last-Event-ID must be the id of an event of this stream")
    return min(int(attempt), 2**31 - 1), min(int(seq), 2**31 - 1)


async def _either(changed: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await changed.wait()
    except TimeoutError:
        pass
