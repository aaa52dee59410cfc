"""Joined writes of an HTTP connection, pauses of its reads, and its end.

uvicorn writes an answer's head and body apart, each with a system call of its own: a fifth of the
time of a small request.
"""

import asyncio
from collections.abc import Sized
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

JOINED_BYTES = 65_536
"""The most bytes that wait to be written together; more is written at once."""


class JoiningTransport:
    """Joins the writes of one turn of the event loop. All else is *transport*'s own."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []
        self._size = 0

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

    def write_eof(self) -> None:
        """End the stream after all is written."""
        self._flush()
        self._transport.write_eof()

    def close(self) -> None:
        """Close after all is written."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._parts:
            parts, self._parts, self._size = self._parts, [], 0
            self._transport.write(b"".join(parts))


class PatientFlow(FlowControl):
    """Reads nothing while a request waits for its turn: each read may bring thousands more."""

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        if not self._waiting:
            super().resume_reading()


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
