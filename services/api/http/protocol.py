"""uvicorn's HTTP protocol with further bounds, and with one write for an answer's head and body.

uvicorn bounds only the idle time between two requests: a connection that sends nothing or half a
head stays open for ever, and httptools, unlike h11, accepts a head of any size [tried on uvicorn
0.54]. (Bodies are bounded in `bodies.py`.) Refusals here are JSON too.

uvicorn writes an answer's head and body apart, each with a system call of its own: a fifth of the
time of a small request.
"""

import asyncio
from typing import Any, cast

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

HEAD_BYTES = 65_536
"""The size limit of a request line and its headers; one more read of the socket may pass."""


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

    def close(self) -> None:
        """Close after all is written."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._parts:
            parts, self._parts, self._size = self._parts, [], 0
            self._transport.write(b"".join(parts))


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    head_seconds = 20.0
    """The time in which a head must arrive, from the connection's or its own first byte on."""

    _head_bytes = 0
    _in_head = True
    _begun = False
    _asked = False
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        joining = JoiningTransport(transport, self.loop)
        super().connection_made(cast("asyncio.Transport", joining))
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._begun = False
        super().data_received(data)
        # A later head may share a read with other data: it counts from its next read on.
        if self._in_head and not (self._begun and self._asked):
            self._head_bytes += len(data)
        if self.transport.is_closing():
            return
        if self._in_head and self._head_bytes > HEAD_BYTES:
            self._refuse(431, f"the request's head is larger than {HEAD_BYTES} bytes")
        elif self._answered():
            # Empty lines, or the rest of a refused body: bounded in time as well.
            self._expect_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begun = self._in_head = True
        self._head_bytes = 0
        self._expect_head()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()
        self._asked = True

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, msg)

    def _answered(self) -> bool:
        return not self._asked or self.cycle.response_complete

    def _expect_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_seconds, self._too_slow)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if not self._head_bytes:
            self.transport.close()  # no request has begun
            return
        self._refuse(408, f"the request's head did not come within {self.head_seconds:g} s")

    def _refuse(self, status: int, message: str) -> None:
        """Answer and close; only close if another answer is being sent."""
        if self._answered() or not (self.cycle.response_started or self.pipeline):
            body = msgspec.json.encode({"message": message}) + b"\n"
            head = (
                "content-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(STATUS_LINE[status] + head.encode() + body)
        self.transport.close()
