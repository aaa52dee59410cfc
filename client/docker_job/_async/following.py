"""Calls that follow: logs, changes, and waiting for jobs to end."""

import codecs
from collections.abc import Iterable
from contextlib import aclosing
from typing import Any, Unpack

import httpx

from docker_job._async.jobs import JobCalls
from docker_job._async.streams import OnTrouble, Source, Stream
from docker_job.documents import Change, Job, LogEnd, LogLine, Reset
from docker_job.events import change_items, log_items, to_look_at
from docker_job.failures import answered, unreachable
from docker_job.iterating import AsyncItems
from docker_job.queries import ChangeFilters, encode

PATIENCE_SECONDS = 300.0
MOST_IDS = 200
"""Of the filter of changes; of more jobs the changes are picked from all changes here."""


class FollowingCalls(JobCalls):
    """Calls whose answer goes on.

    Each returns a generator. It closes its connection when it ends or is closed; leave it early
    within `contextlib.aclosing`. *patience_seconds*: how long the API may be away, None for ever.
    """

    async def logs(
        self,
        job_id: int,
        *,
        tail: int | None = None,
        attempt: int | None = None,
        stream: str | None = None,
        timestamps: bool = False,
        streams: bool = False,
    ) -> AsyncItems[str]:
        """Yield the lines that the containers have printed so far, without their line feeds.

        Only a line feed ends a line. *timestamps*, *streams*: put them before each line.
        """
        chosen = {"tail": tail, "attempt": attempt, "stream": stream}
        query = encode({**chosen, "timestamps": timestamps or None, "streams": streams or None})
        decoder, rest = codecs.getincrementaldecoder("utf-8")(errors="replace"), ""
        try:
            async with self._transport.stream(f"/jobs/{job_id}/logs", query, {}) as response:
                if not response.is_success:
                    await response.aread()
                    raise answered(response)[1]
                async for chunk in response.aiter_bytes():
                    *lines, rest = (rest + decoder.decode(chunk)).split("\n")
                    for line in lines:
                        yield line
        except httpx.RequestError as error:
            raise unreachable(self._transport.target, error) from error
        if rest := rest + decoder.decode(b"", final=True):
            yield rest

    async def follow_logs(
        self,
        job_id: int,
        *,
        after: str | None = None,
        tail: int | None = None,
        attempt: int | None = None,
        stream: str | None = None,
        patience_seconds: float | None = PATIENCE_SECONDS,
        on_trouble: OnTrouble | None = None,
    ) -> AsyncItems[LogLine | LogEnd]:
        """Yield the lines of a job as they come, then its `LogEnd`: none is lost or doubled.

        *after*: the id of a line, to go on behind it; *tail* has no effect then.
        """
        query = [("follow", "1"), *encode({"tail": tail, "attempt": attempt, "stream": stream})]
        source = Source(f"/jobs/{job_id}/logs", query, after, patience_seconds, on_trouble)
        previous = after
        async with aclosing(Stream(self._transport, source).events()) as events:
            async for event in events:
                for each in log_items(event, previous):
                    yield each
                if event.kind == "end":
                    return
                previous = event.id

    async def events(
        self,
        *,
        job: int | Iterable[int] | None = None,
        after: str | None = None,
        patience_seconds: float | None = PATIENCE_SECONDS,
        on_trouble: OnTrouble | None = None,
        **filters: Unpack[ChangeFilters],
    ) -> AsyncItems[Change | Reset]:
        """Yield the changes of jobs in the order in which they were committed, without an end.

        *after*: a position, to go on behind it; without one it begins with what comes from now on.
        A `Reset` says that changes are missing: read the list again.
        """
        source = self._changes(job, after, patience_seconds, on_trouble, dict(filters))
        async with aclosing(Stream(self._transport, source).events()) as events:
            async for event in events:
                for each in change_items(event):
                    yield each

    async def wait(
        self,
        job_ids: Iterable[int],
        *,
        patience_seconds: float | None = PATIENCE_SECONDS,
        on_trouble: OnTrouble | None = None,
    ) -> AsyncItems[Job]:
        """Yield each job once it is over, in the order in which they end. Raises `NotFound`."""
        pending = dict.fromkeys(job_ids)
        few = list(pending) if len(pending) <= MOST_IDS else None
        source = self._changes(few, None, patience_seconds, on_trouble, {})
        # They are looked at once the stream stands: what ends from then on is seen on it.
        async with aclosing(Stream(self._transport, source).events()) as events:
            async for event in events:
                for job_id in to_look_at(event, pending):
                    job = await self.status(job_id)
                    if job.is_over:
                        del pending[job_id]
                        yield job
                if not pending:
                    return

    def _changes(
        self,
        job: int | Iterable[int] | None,
        after: str | None,
        patience_seconds: float | None,
        on_trouble: OnTrouble | None,
        filters: dict[str, Any],
    ) -> Source:
        jobs = [job] if isinstance(job, int) else job
        query = encode({"job": jobs, **filters})
        return Source("/events", query, after, patience_seconds, on_trouble)
