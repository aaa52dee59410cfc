"""Joined writes of an HTTP connection, pauses of its reads, and its end.

uvicorn writes an answer's head and body apart, each with a system call of its own: a fifth of the
time of a small request.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from uvicorn._types import (
    ASGI3Application,
    ASGIReceiveCallable,
    ASGISendCallable,
    ASGISendEvent,
    Scope,
)
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from shared import request_ids

JOINED_BYTES = 65_536
"""The most bytes that wait to be written together; more is written at once."""


LINGER_SECONDS = 2.0
"""The longest time for which the rest of a refused request is read, and dropped."""


class JoiningTransport:
    """Joins the writes of one turn of the event loop. All else is *transport*'s own.

    *unread* returns whether the client may still be sending; *grow* notes what is to be sent.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        unread: Callable[[], bool] = lambda: False,
        grow: Callable[[int], None] = lambda _count: None,
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._unread = unread
        self._grow = grow
        self._parts: list[bytes] = []
        self._size = 0
        self._closing: asyncio.TimerHandle | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write *data* before the loop's next turn ends."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)
        self._size += len(data)
        if self._size > JOINED_BYTES:
            self._flush()
        self._grow(len(data))

    def get_write_buffer_size(self) -> int:
        """Return the bytes that are not sent yet."""
        return self._size + self._transport.get_write_buffer_size()

    def abort(self) -> None:
        """Close at once; what is not sent is lost."""
        self._parts, self._size = [], 0
        self._stop_waiting()
        self._transport.abort()

    def is_closing(self) -> bool:
        """Return whether nothing more is read or answered."""
        return self._closing is not None or self._transport.is_closing()

    def close(self) -> None:
        """Close after all is written; a little later if the client may still be sending.

        If unread data is left, a close resets the connection, and the client may lose the answer
        that it has not read yet (RFC 9112, 9.6). A second call closes at once.
        """
        self._flush()
        if self._closing is not None or not self._unread() or self._transport.is_closing():
            self._stop_waiting()
            self._transport.close()
            return
        if self._transport.can_write_eof():  # TLS has no half-closed connections
            self._transport.write_eof()
        self._transport.resume_reading()
        self._closing = self._loop.call_later(LINGER_SECONDS, self._transport.close)

    def _stop_waiting(self) -> None:
        if self._closing is not None:
            self._closing.cancel()

    def _flush(self) -> None:
        if self._parts:
            parts, self._parts, self._size = self._parts, [], 0
            self._transport.write(b"".join(parts))


class PatientFlow(FlowControl):
    """Reads nothing while a request waits for its turn: each read may bring thousands more."""

    def __init__(self, transport: asyncio.Transport, has_waiting: Callable[[], bool]) -> None:
        super().__init__(transport)
        self._has_waiting = has_waiting

    def resume_reading(self) -> None:
        if not self._has_waiting():
            super().resume_reading()


def named(cycle: RequestResponseCycle) -> str:
    """Return the id of the request that *cycle* serves; each answer to it has the id."""
    request_id = request_ids.id_from(cycle.scope["headers"])
    cycle.default_headers = [*cycle.default_headers, (request_ids.HEADER, request_id)]
    return request_id.decode()


def request_id_of(
    cycle: RequestResponseCycle | None, headers: Sequence[tuple[bytes, bytes]]
) -> tuple[bytes, bytes]:
    """Return the header with the id for a refusal: of *cycle*, if it serves the request already."""
    if cycle is not None and cycle.scope["headers"] is headers:
        return cycle.default_headers[-1]
    return request_ids.HEADER, request_ids.id_from(headers)


def closing_if_unread(app: ASGI3Application, cycle: RequestResponseCycle) -> ASGI3Application:
    """Close the connection behind an answer that comes instead of `100 Continue`.

    Nobody knows then whether the body follows or the next request (RFC 9110, 10.1.1).
    """

    async def serve(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        async def send_closing(message: ASGISendEvent) -> None:
            if message["type"] == "http.response.start" and cycle.waiting_for_100_continue:
                cycle.keep_alive = False
            await send(message)

        await app(scope, receive, send_closing)

    return serve


def without_chunks(app: ASGI3Application, cycle: RequestResponseCycle) -> ASGI3Application:
    """End an answer of unknown length with the connection: HTTP/1.0 has no chunks (RFC 9112, 6.1).

    uvicorn sends such a body only up to the length that it expects: here that of each part.
    """

    async def serve(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        unknown = False

        async def send_plain(message: ASGISendEvent) -> None:
            nonlocal unknown
            if message["type"] == "http.response.start":
                unknown = all(name != b"content-length" for name, _ in message.get("headers", ()))
                if unknown:
                    cycle.chunked_encoding = False
            elif message["type"] == "http.response.body" and unknown:
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await app(scope, receive, send_plain)

    return serve
