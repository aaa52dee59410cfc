"""uvicorn's HTTP protocol with further bounds, strict framing, and few writes.

uvicorn bounds only the idle time between two requests: a connection that sends nothing or half a
head stays open for ever, and httptools, unlike h11, accepts heads and trailers of any size [tried
on uvicorn 0.54]. It gives a request with `Upgrade` no body, adds trailers to the headers, answers
what is no HTTP before the requests in front of it, and HTTP/1.0 in chunks. Refusals here are JSON.
"""

import asyncio
import contextlib
from typing import cast

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from shared import request_ids
from shared.runtime.http_connection import RequestPart, RoomyProtocol
from shared.runtime.http_flow import (
    JoiningTransport,
    PatientFlow,
    closing_if_unread,
    named,
    without_chunks,
)

HEAD_BYTES = 65_536
"""The size limit of a request line and its headers, and of what comes between two bytes of a body
(trailers, extensions of chunks); one more read of the socket may pass."""

LARGE_HEAD = f"the request's head is larger than {HEAD_BYTES} bytes"
LARGE_TRAILER = f"the request has more than {HEAD_BYTES} bytes of trailers or chunk extensions"

READ_BYTES = 65_536
"""The most bytes that are read at once. asyncio's own bound is four times as much (`max_size`)."""

PARSED_BYTES = 4096
"""The most bytes that are parsed at once: of small requests, some hundred wait for their turn then,
and what follows them stays as it came."""


class Malformed(Exception):
    """The head is no request to this server. The message says why."""


class BoundedProtocol(RoomyProtocol):
    """One connection."""

    head_seconds = 20.0
    """The time in which a head must arrive, from the connection's or its own first byte on."""

    _coding: bytes | None = None
    _mixed = False
    """The read has brought other data too than what `_head_bytes` counts."""

    _asked = False
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        with contextlib.suppress(AttributeError):  # of another loop's transport
            transport.max_size = READ_BYTES  # type: ignore[attr-defined]
        joining = JoiningTransport(transport, self.loop, self._may_be_sending, self.room.grow)
        super().connection_made(cast("asyncio.Transport", joining))
        self.flow = PatientFlow(self.transport, self._has_waiting)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self.transport.close()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refusal is not None or self.transport.is_closing():
            return  # nothing more is answered
        self._unset_keepalive_if_required()
        self.room.grow(len(data))
        self._unparsed += data
        self._read_on()

    def _read_on(self) -> None:
        """Read what has come, up to a request that waits for its turn."""
        while self._unparsed and not self.pipeline:
            if self._refusal is not None or self.transport.is_closing():
                self._unparsed = b""
                return
            data, self._unparsed = self._unparsed[:PARSED_BYTES], self._unparsed[PARSED_BYTES:]
            self._read(data)

    def _read(self, data: bytes) -> None:
        self._mixed = False
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            # httptools takes no target of this size.
            large = self._part is RequestPart.HEAD and len(self.url) >= HEAD_BYTES
            self._refuse(*((431, LARGE_HEAD) if large else (400, _reason_of(error))))
            return
        if not self._mixed:  # else it counts from the next read on
            self._head_bytes += len(data)
        if self.transport.is_closing():
            return
        if self._part is not RequestPart.NONE and self._head_bytes > HEAD_BYTES:
            self._refuse(431, LARGE_HEAD if self._part is RequestPart.HEAD else LARGE_TRAILER)
        elif self._all_answered():
            # Empty lines, or the rest of a refused body: bounded in time as well.
            self._expect_head()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection for the answers that are due: the client may wait for them.

        Once an answer has begun, the client counts as gone: a stream may have no end.
        """
        if self._refusal is None and self._part is not RequestPart.NONE:
            self._refuse(400, "the connection ended before the request did")
        elif self._refusal is None:
            self._refusal = b""
        begun = self._running is not None and self._running.response_started
        if self.transport.is_closing() or self._all_answered() or begun:
            self._part = RequestPart.NONE  # nothing more can come
            self.transport.close()
        return self.transport.can_write_eof()  # a TLS connection cannot be kept

    # -- callbacks of the parser

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._mixed = self._mixed or self._asked
        self._coding = None
        self._part = RequestPart.HEAD
        self._head_bytes = 0
        self._expect_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        # A trailer is no header (RFC 9110, 6.5.1): it comes after the checks of these.
        if self._part is not RequestPart.HEAD:
            return
        name, value = name.lower(), value.rstrip(b" \t")  # llhttp strips the other side alone
        if name == b"expect":
            self.expect_100_continue = value.lower() == b"100-continue"
        elif name == b"transfer-encoding":
            self._coding = value.lower() if self._coding is None else b"several"
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # `_parse` gives this head to another parser
        self._check_head()
        super().on_headers_complete()
        self._stop_timer()
        self._part = RequestPart.BODY
        self._asked = self._mixed = True
        self._head_bytes = 0

    def on_body(self, body: bytes) -> None:
        self._mixed = True
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._part is RequestPart.BODY:  # else its head is to be parsed again
            super().on_message_complete()
            self._part = RequestPart.NONE
            self._head_bytes = 0

    def _parse(self, data: bytes) -> None:
        """Parse *data*; a request to upgrade the protocol is answered as if it were none.

        A server may ignore `Upgrade` (RFC 9110, 7.8). llhttp instead takes all behind the head for
        the new protocol, so the head without that header goes to a new parser, then the rest.
        """
        rest = memoryview(data)
        while True:
            try:
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as stop:
                rest = rest[stop.args[0] :]
                head = self._head_without_upgrade()
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
                self.parser.feed_data(head)
            else:
                return

    def _head_without_upgrade(self) -> bytes:
        method = self.parser.get_method()
        if method == b"CONNECT":  # for llhttp an upgrade by itself
            raise httptools.HttpParserError("CONNECT is for proxies")
        version = self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (method, self.url, version)]
        lines += [b"%s: %s" % each for each in self.headers if each[0] != b"upgrade"]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _check_head(self) -> None:
        """Raise `Malformed` for what uvicorn would take; complete the target of absolute form."""
        version = self.parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise Malformed(f"HTTP/{version} is not spoken here: use HTTP/1.1")
        # RFC 9112, 6.1: HTTP/1.0 has no codings; of others than chunked nothing is decoded here.
        if self._coding is not None and (version == "1.0" or self._coding != b"chunked"):
            raise Malformed("Transfer-Encoding may only be chunked, in HTTP/1.1")
        if version == "1.0":
            self.expect_100_continue = False  # RFC 9110, 10.1.1
        if not self.url.startswith(b"/"):
            target = httptools.parse_url(self.url)
            if not target.path:  # http://host
                self.url = b"/" + (b"?" + target.query if target.query else b"")

    # -- answers

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        if cycle.waiting_for_100_continue:
            app = closing_if_unread(app, cycle)
        if cycle.scope["http_version"] == "1.0":
            app = without_chunks(app, cycle)
        with request_ids.serving(named(cycle)):
            super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        if self._refusal is None or self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            self._read_on()
            self.flow.resume_reading()
            return
        self.server_state.total_requests += 1
        self._end()

    def _has_waiting(self) -> bool:
        return bool(self.pipeline or self._unparsed)

    def _all_answered(self) -> bool:
        return not self._asked or self.cycle.response_complete

    def _refuse(self, status: int, message: str) -> None:
        """Answer and close, after the answers that are due before."""
        self._stop_timer()
        self._refusal = self._refusal_of(status, message)
        if self._give_up_request() if self._part is RequestPart.BODY else self._all_answered():
            self._end()

    def _give_up_request(self) -> bool:
        """Give up the request whose body is broken; return whether no answer is due before."""
        if self.pipeline and self.pipeline[0][0] is self.cycle:
            self.pipeline.popleft()
            return False
        if self.cycle.response_started:
            self._refusal = b""  # it has its answer
            return self.cycle.response_complete
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        return True

    def _end(self) -> None:
        self._unset_keepalive_if_required()
        if self._refusal:
            self.transport.write(self._refusal)
        self.transport.close()

    def _may_be_sending(self) -> bool:
        return bool(self._refusal) or self._part is not RequestPart.NONE

    def shutdown(self) -> None:
        if self.transport.is_closing():
            self.transport.close()
        else:
            super().shutdown()

    # -- the time for a head

    def _expect_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_seconds, self._too_slow)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if self._part is RequestPart.HEAD:
            self._refuse(408, f"the request's head did not come within {self.head_seconds:g} s")
        else:
            self.transport.close()  # no request has begun


def _reason_of(error: httptools.HttpParserError) -> str:
    """Return the message of a 400; a callback's own error is the context of the parser's."""
    cause = error.__context__
    if isinstance(cause, Malformed):
        return str(cause)
    if isinstance(cause, httptools.HttpParserInvalidURLError):
        return "invalid HTTP: the request's target is no URL"
    return f"invalid HTTP: {error}"
