"""Calls that report: plans, statistics, instances, the API itself; and dead letters."""

import json
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Unpack
from urllib.parse import quote

from docker_job._async.transport import Transport, next_cursor
from docker_job.documents import (
    About,
    DeadLetter,
    DeadLetters,
    Instance,
    Plan,
    Stats,
)
from docker_job.queries import StatsFilters, encode
from docker_job.quotas import Quotas


class ReportCalls:
    """Calls that change no job."""

    _transport: Transport

    async def plan(self, job: Mapping[str, Any]) -> Plan:
        """Return what scheduling *job* would lead to; `expected_seconds` is one more field."""
        answer = await self._call("POST", "/plan", body=json.dumps(dict(job)).encode())
        return self._transport.read(Plan, answer)

    async def stats(self, **filters: Unpack[StatsFilters]) -> Stats:
        """Return counts, cost and lateness of the jobs that finished in a time, by group."""
        return self._transport.read(Stats, await self._call("GET", "/stats", encode(filters)))

    async def totals(
        self,
        *,
        first: date | str | None = None,
        last: date | str | None = None,
        project: str | None = None,
    ) -> Any:
        """Return daily totals as the API sends them, removed jobs included."""
        query = encode({"from": first, "to": last, "project": project})
        return await self._call("GET", "/totals", query)

    async def instances(self, *, project: str | None = None) -> Sequence[Instance]:
        """Return the instances that exist now as far as is known, the oldest first."""
        found: list[Instance] = []
        query = encode({"project": project})
        while True:
            response = await self._transport.send("GET", "/instances", query=query)
            answer = self._transport.json(response)
            found += [self._transport.read(Instance, each) for each in answer]
            cursor = next_cursor(response)
            if cursor is None:
                return found
            query = encode({"project": project, "cursor": cursor})

    async def quotas(self) -> Quotas:
        """Return what may run at once and cost a day, and what is used of that."""
        return self._transport.read(Quotas, await self._call("GET", "/quotas"))

    async def about(self) -> About:
        """Return the API's version and time, and whose key this is."""
        return self._transport.read(About, await self._call("GET", "/about"))

    async def ready(self) -> Mapping[str, Any]:
        """Return the API's readiness; `status` is `ready` or `not ready`, `missing` says what."""
        response = await self._transport.send("GET", "/readyz", expected=frozenset({503}))
        answer: Mapping[str, Any] = self._transport.json(response)
        return answer

    async def deadletters(
        self, *, service: str | None = None, event: str | None = None, limit: int | None = None
    ) -> DeadLetters:
        """Return the events whose handlers failed."""
        query = encode({"service": service, "event": event, "limit": limit})
        return self._transport.read(DeadLetters, await self._call("GET", "/deadletters", query))

    async def deadletter(self, event_id: str, *, service: str | None = None) -> DeadLetter:
        """Return a dead letter with its body. Raises `NotFound`.

        *service*: the one that is meant, if several have it; so also in `redrive` and `drop`.
        """
        answer = await self._call("GET", _path(event_id), encode({"service": service}))
        return self._transport.read(DeadLetter, answer)

    async def redrive(self, event_id: str, *, service: str | None = None) -> Mapping[str, Any]:
        """Ask the service to handle a dead letter again. Raises `Conflict`."""
        path, query = f"{_path(event_id)}/redrive", encode({"service": service})
        answer: Mapping[str, Any] = await self._call("POST", path, query)
        return answer

    async def drop(self, event_id: str, *, service: str | None = None) -> Mapping[str, Any]:
        """Ask the service to delete a dead letter for good. Raises `Conflict`."""
        query = encode({"service": service})
        answer: Mapping[str, Any] = await self._call("DELETE", _path(event_id), query)
        return answer

    async def _call(
        self,
        method: str,
        path: str,
        query: Sequence[tuple[str, str]] = (),
        *,
        body: bytes | None = None,
    ) -> Any:
        response = await self._transport.send(method, path, query=query, body=body)
        return self._transport.json(response)


def _path(event_id: str) -> str:
    return f"/deadletters/{quote(event_id, safe='')}"
