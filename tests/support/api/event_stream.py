"""The API served by its real server in a test's own loop, and a reader of its change events."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
from msgspec import Struct

from services.api.http.server import bind, http_server
from tests.support.api.api_world import World
from tests.support.api.described import check

SECONDS = 30


@contextlib.asynccontextmanager
async def serving(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """Serve *world*; yield a client whose answers are all held to the OpenAPI document."""
    with bind("127.0.0.1", 0) as sock:
        server = http_server(world.api.app)
        served = asyncio.create_task(server.serve(sockets=[sock]))
        base_url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        hooks = {"response": [check]}
        try:
            async with httpx.AsyncClient(base_url=base_url, event_hooks=hooks) as http:
                yield http
        finally:
            server.stop()
            await served


class StreamEvent(Struct, frozen=True):
    """One event: its name, its id, and its data."""

    name: str
    id: str
    data: dict[str, Any]


class EventReader:
    """The events of one answer, as they come; `last_id` is the id that a browser would send."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self.last_id = ""
        self._lines = answer.aiter_lines()

    async def begun(self) -> str:
        """Return the id that the stream begins with."""
        async for line in self._lines:
            if line.startswith("id: "):
                self.last_id = line.removeprefix("id: ")
            elif not line:
                break
        return self.last_id

    async def upcoming(self) -> StreamEvent:
        """Return the next event that has data."""
        name, data = "message", None
        async for line in self._lines:
            field, _, value = line.partition(": ")
            if field == "id":
                self.last_id = value
            elif field == "event":
                name = value
            elif field == "data":
                data = json.loads(value)
            elif not line and data is not None:
                return StreamEvent(name, self.last_id, data)
        raise EOFError

    async def take(self, count: int) -> list[dict[str, Any]]:
        """Return the data of the next *count* changes."""
        found = [await self.upcoming() for _ in range(count)]
        assert {each.name for each in found} <= {"change"}
        return [each.data for each in found]

    async def comment(self) -> str:
        """Return the next line that is a comment, and read to the end of its block."""
        comment = await anext(line async for line in self._lines if line.startswith(":"))
        await self.begun()
        return comment


@contextlib.asynccontextmanager
async def following(
    http: httpx.AsyncClient,
    last_id: str = "",
    **parameters: str | Sequence[str],
) -> AsyncIterator[EventReader]:
    """Follow the changes, after that with *last_id* if it is given."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    async with (
        asyncio.timeout(SECONDS),
        http.stream("GET", "/events", params=parameters, headers=headers) as answer,
    ):
        assert answer.status_code == 200, await answer.aread()
        yield EventReader(answer)
