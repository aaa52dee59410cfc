"""Calls about jobs: schedule, show, list, cancel, remove."""

import json
import uuid
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any, Unpack

from docker_job._async.transport import Transport, next_cursor
from docker_job.documents import Job, ListedJob, Page
from docker_job.errors import LIST_THEM, NotFound
from docker_job.iterating import AsyncItems
from docker_job.queries import ListFilters, encode


class JobCalls:
    """The calls of jobs."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def schedule(self, job: Mapping[str, Any], *, idempotency_key: str | None = None) -> Job:
        """Schedule a job; its fields are those of `POST /schedule`.

        It carries an idempotency key, so that a repeat after a lost answer makes no second job.
        """
        return await self._create("/schedule", job, idempotency_key)

    async def schedule_many(self, jobs: Sequence[Mapping[str, Any]]) -> Sequence[Job]:
        """Schedule up to 1,000 jobs, all or none.

        An array has no idempotency key: it is not sent again if its answer is lost.
        """
        body = json.dumps([dict(each) for each in jobs]).encode()
        response = await self._transport.send("POST", "/schedule", body=body, repeatable=False)
        return [self._transport.read(Job, each) for each in self._transport.json(response)]

    async def rerun(
        self,
        job_id: int,
        overrides: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
    ) -> Job:
        """Schedule a job like an old one; *overrides* are fields of `POST /schedule`."""
        return await self._create(f"/jobs/{job_id}/rerun", overrides or {}, idempotency_key)

    async def _create(self, path: str, body: Mapping[str, Any], key: str | None) -> Job:
        response = await self._transport.send(
            "POST",
            path,
            body=json.dumps(dict(body)).encode(),
            headers={"Idempotency-Key": key or str(uuid.uuid4())},
        )
        return self._transport.read(Job, self._transport.json(response))

    async def status(self, job_id: int) -> Job:
        """Return a job with its attempts. Raises `NotFound`."""
        response = await self._transport.send("GET", f"/status/{job_id}")
        return self._transport.read(Job, self._transport.json(response))

    async def page(self, **filters: Unpack[ListFilters]) -> Page:
        """Return one page of jobs, newest first, and where the next one begins."""
        response = await self._transport.send("GET", "/list", query=encode(filters))
        jobs = [self._transport.read(ListedJob, each) for each in self._transport.json(response)]
        return Page(jobs, next_cursor(response))

    async def list(self, **filters: Unpack[ListFilters]) -> AsyncItems[ListedJob]:
        """Yield jobs, newest first, page by page."""
        while True:
            page = await self.page(**filters)
            for job in page.jobs:
                yield job
            if page.next_cursor is None:
                return
            filters["cursor"] = page.next_cursor

    async def find(self, id_or_name: str | int) -> int:
        """Return the id of a job: that of an id is itself, of a name that of the newest job.

        Raises `NotFound` if no job has that name.
        """
        text = str(id_or_name)
        if text.isascii() and text.isdecimal():
            return int(text)
        async with aclosing(self.list(name=text, limit=1)) as jobs:
            async for job in jobs:
                return job.id
        raise NotFound(404, f"No job is named {text!r}.", LIST_THEM)

    async def cancel(self, job_id: int) -> Job:
        """Cancel a job at any stage. Raises `Conflict` if it is over."""
        response = await self._transport.send("DELETE", f"/jobs/{job_id}")
        return self._transport.read(Job, self._transport.json(response))

    async def remove(self, job_id: int) -> None:
        """Remove the record of a finished job, with its logs. Raises `Conflict` if it is needed."""
        await self._transport.send("DELETE", f"/jobs/{job_id}/record")
