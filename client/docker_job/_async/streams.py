"""Server-sent events that go on after a cut: behind the last event that came whole."""

import random
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import httpx

from docker_job._async.transport import Transport
from docker_job.errors import ApiError, DockerJobError, UnexpectedAnswer, Unreachable
from docker_job.failures import answered, failure_of, unreachable
from docker_job.iterating import AsyncItems, async_pause
from docker_job.retrying import Failure, pause_before_resuming
from docker_job.sse import EventParser, ServerEvent

EVENTS = "text/event-stream"

STEADY_SECONDS = 5.0
"""A connection that lasts so long is steady: the next cut is the first again."""

OnTrouble = Callable[[DockerJobError | None], None]
"""Called when a stream was cut and is tried again, with the reason; with None when it goes on."""


@dataclass(frozen=True)
class Source:
    """A stream: where it is, and how patiently it is resumed."""

    path: str
    query: Sequence[tuple[str, str]]
    after: str | None = None
    patience_seconds: float | None = None
    on_trouble: OnTrouble | None = None


class _Refused(Exception):
    """The API answered with an error in place of the stream."""

    def __init__(self, failure: Failure, error: ApiError) -> None:
        super().__init__(str(error))
        self.failure = failure
        self.error = error


class Stream:
    """A stream and how far it has come."""

    def __init__(self, transport: Transport, source: Source) -> None:
        self._transport = transport
        self._source = source
        self._position = source.after
        self._failures = 0
        self._opened_at = 0.0
        self._down_since: float | None = None

    async def events(self) -> AsyncItems[ServerEvent]:
        """Yield events, connecting again for as long as patience lasts.

        A 204 ends it; without one the caller leaves when it has what it wants. Raises the error
        that would come again (400, 401, 404, …) at once, any other when patience has run out.
        """
        error: DockerJobError
        while True:
            try:
                async with self._open() as response:
                    if response.status_code == 204:
                        return
                    await self._check(response)
                    parser = EventParser(self._position or "")
                    self._opened_at = time.monotonic()
                    async for chunk in response.aiter_bytes():
                        self._lives()
                        for event in parser.feed(chunk):
                            self._position = event.id or self._position
                            self._failures = 0 if event.data is not None else self._failures
                            yield event
                failure, error = Failure(), self._cut()
            except httpx.RequestError as cause:
                failure, error = failure_of(cause), unreachable(self._transport.target, cause)
            except _Refused as cause:
                failure, error = cause.failure, cause.error
            await async_pause(self._pause_after(failure, error))

    def _open(self) -> AbstractAsyncContextManager[httpx.Response]:
        headers = {"Accept": EVENTS}
        if self._position:
            headers["Last-Event-ID"] = self._position
        return self._transport.stream(self._source.path, self._source.query, headers)

    async def _check(self, response: httpx.Response) -> None:
        if not response.is_success:
            await response.aread()
            raise _Refused(*answered(response))
        kind = response.headers.get("Content-Type", "no type")
        if not kind.startswith(EVENTS):
            raise UnexpectedAnswer(self._transport.target.url, f"{kind} in place of a stream")

    def _cut(self) -> Unreachable:
        target = self._transport.target
        return Unreachable(target.url, "the connection was cut", local=target.is_local)

    def _lives(self) -> None:
        """Note a sign of life. A server that only ever greets is not worth hurrying to."""
        if self._down_since is not None and self._source.on_trouble is not None:
            self._source.on_trouble(None)
        self._down_since = None
        if time.monotonic() - self._opened_at > STEADY_SECONDS:
            self._failures = 0

    def _pause_after(self, failure: Failure, error: DockerJobError) -> float:
        """Return how long to wait before the next try. Raises *error* if there is none."""
        now = time.monotonic()
        self._failures += 1
        if self._down_since is None:
            self._down_since = now
        seconds = pause_before_resuming(
            failure,
            self._failures,
            now - self._down_since,
            self._source.patience_seconds,
            chance=random.random(),
        )
        if seconds is None:
            raise error
        if self._source.on_trouble is not None:
            self._source.on_trouble(error)
        return seconds
