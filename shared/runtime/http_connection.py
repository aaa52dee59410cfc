"""One connection of uvicorn's as far as the room of all connections depends on it.

uvicorn has no bound on connections but `limit_concurrency`, which counts those of followers and of
idle clients alike and refuses the newest [uvicorn 0.54]; it bounds neither the requests that wait
for their turn nor the time for which a client leaves its answer unread.
"""

import asyncio
import enum
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from shared.runtime.http_flow import request_id_of
from shared.runtime.http_room import Room

NOSNIFF = (b"x-content-type-options", b"nosniff")
"""A header of every answer: no browser may take a text, such as a log, for a page."""

REQUEST_BYTES = 4096
"""The memory of a request that waits for its turn, beside its headers and body."""

FULL = "requests use up the server's memory: try again"


class RequestPart(enum.Enum):
    """The part of a request that is being read."""

    NONE = 0
    HEAD = 1
    BODY = 2


class RoomyProtocol(HttpToolsProtocol):
    """A connection that has its place in *room*."""

    write_seconds = 60.0
    """The longest time for which a client reads nothing of an answer that is due."""

    _part = RequestPart.NONE
    _head_bytes = 0
    _running: RequestResponseCycle | None = None
    _refusal: bytes | None = None
    """The last answer of this connection; empty: there is none, it is only closed."""

    _unparsed = b""
    """What has come behind requests that wait for their turn."""

    _unread_timer: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, room: Room, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.room = room

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.room.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.room.leave(self)
        self._stop_unread_timer()
        super().connection_lost(exc)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        if not self.flow.write_paused:
            self.room.wait_for_server(self)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._running is None or self._running.response_complete:
            self.room.wait_for_client(self)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.room.wait_for_client(self)
        if self._unread_timer is None:
            self._expect_reading(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_unread_timer()
        if self._part is RequestPart.NONE and self._running and not self._running.response_complete:
            self.room.wait_for_server(self)

    def _expect_reading(self, unread: int) -> None:
        self._unread_timer = self.loop.call_later(self.write_seconds, self._check_reading, unread)

    def _check_reading(self, before: int) -> None:
        """Close the connection if no byte of what was unread *before* was read since."""
        unread = self.transport.get_write_buffer_size()
        if unread < before:
            self._expect_reading(unread)
        else:
            self._unread_timer = None
            self.transport.abort()

    def _stop_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    # -- its place in the room

    def buffered(self) -> int:
        """Return the bytes that wait here for the application, or for the client to read them."""
        size: int = self.transport.get_write_buffer_size() + len(self._unparsed)
        if self._part is not RequestPart.NONE:
            size += self._head_bytes
        return size + sum(map(_size_of, self._cycles()))

    def give_up(self, *, linger: bool) -> None:
        """Close it, as `room.Connection` describes."""
        self._stop_unread_timer()
        if self.transport.is_closing():  # it lingers, and is to wait no longer
            self.transport.abort()
            return
        unsent = self.transport.get_write_buffer_size() > 0
        cycles = self._cycles()
        begun = any(each.response_started and not each.response_complete for each in cycles)
        asked = self._part is not RequestPart.NONE or any(
            not each.response_complete for each in cycles
        )
        self._refusal, self._unparsed, self._head_bytes = b"", b"", 0  # nothing more is parsed
        self.pipeline.clear()
        for cycle in cycles:
            cycle.disconnected = True
            cycle.body = bytearray()
            cycle.message_event.set()
        if unsent or begun:
            self.transport.abort()
            return
        if asked:
            self.transport.write(self._refusal_of(503, FULL, (b"retry-after", b"1")))
        self.transport.close()
        if not linger:
            self.transport.close()

    def _cycles(self) -> list[RequestResponseCycle]:
        """Return the requests that have a head: the one that is served, and those behind it."""
        found = {id(each): each for each, _ in self.pipeline}
        for cycle in (self._running, self.cycle):
            if cycle is not None:
                found[id(cycle)] = cycle
        return list(found.values())

    def _refusal_of(self, status: int, message: str, *more: tuple[bytes, bytes]) -> bytes:
        """Make an answer of JSON behind which the connection ends."""
        body = msgspec.json.encode({"message": message}) + b"\n"
        headers = [
            *self.server_state.default_headers,
            request_id_of(
                self._running if self._part is RequestPart.BODY else None, self.headers or ()
            ),
            NOSNIFF,
            *more,
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        head = b"".join(b"%s: %s\r\n" % each for each in headers)
        return STATUS_LINE[status] + head + b"\r\n" + body


def _size_of(cycle: RequestResponseCycle) -> int:
    if cycle.response_complete:
        return 0
    heads = sum(len(name) + len(value) for name, value in cycle.scope["headers"])
    return REQUEST_BYTES + heads + len(cycle.body)
