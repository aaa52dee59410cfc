"""HTTP over one kept-alive connection."""

from __future__ import annotations

import http.client
import io
import json
import socket
import ssl
import time
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from .errors import UnreachableError

MAX_ANSWER_BYTES = 16 * 1024 * 1024
WHOLE_FACTOR = 3.0  # the time limit of a whole answer, in time limits of a single read

NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Answer(NamedTuple):
    """An HTTP response, its body as text; the names of headers are in lower case."""

    status: int
    text: str
    headers: Mapping[str, str] = NO_HEADERS
    foreign: bool = False  # it lacks the mark that the answers of our API have

    def json(self) -> object:
        """Return the body's JSON, None if it is none."""
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError):
            return None


class TimedReads(io.RawIOBase):
    """The reads of a socket up to a time: an answer that trickles in must end too."""

    def __init__(self, sock: socket.socket, reads: io.RawIOBase, until: float) -> None:
        self._sock = sock
        self._reads = reads
        self._silence = sock.gettimeout() or 0.0
        self._until = until

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read what is there next; raises TimeoutError."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer takes too long")
        self._sock.settimeout(min(left, self._silence))
        try:
            return self._reads.readinto(buffer)
        finally:
            self._sock.settimeout(self._silence)

    def close(self) -> None:
        """Close the socket's file too."""
        self._reads.close()
        super().close()


class FinalResponse(http.client.HTTPResponse):
    """A response, read up to a time; http.client takes interim ones (102, 103) for it."""

    def __init__(self, until: float, sock: socket.socket, *args: Any, **more: Any) -> None:
        super().__init__(sock, *args, **more)
        self.fp: Any = io.BufferedReader(TimedReads(sock, self.fp.detach(), until))

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc]
        interim = 100 < status < 200 and status != 101
        return version, 100 if interim else status, reason


def verifying(authority: str) -> ssl.SSLContext:
    """Return a context that verifies the server: by *authority* alone (PEM), else by the system's.

    https://docs.python.org/3/library/ssl.html#ssl.create_default_context
    """
    context = ssl.create_default_context(cadata=authority or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class Http:
    """One kept-alive connection to one server, for one thread at a time.

    *authority*: PEM of the one authority that is trusted for it; empty: the system's.
    """

    def __init__(self, base_url: str, timeout_seconds: float, authority: str = "") -> None:
        url = urlsplit(base_url)
        # Without a port http.client would take the end of an IPv6 address for one.
        port = url.port or (443 if url.scheme == "https" else 80)
        host = url.hostname or ""
        self._connection = http.client.HTTPConnection(host, port, timeout=timeout_seconds)
        if url.scheme == "https":
            self._connection = http.client.HTTPSConnection(
                host, port, timeout=timeout_seconds, context=verifying(authority)
            )
        self._prefix = url.path.rstrip("/")
        self._timeout_seconds = timeout_seconds
        # ValueError: what is no HTTP, and a name that no DNS query can have.
        self._errors = (OSError, http.client.HTTPException, ValueError)

    def request(
        self, method: str, path: str, headers: dict[str, str], body: object = None
    ) -> Answer:
        """Send a request and return its response; raises UnreachableError.

        The server may just have closed a kept connection, so a failure on one is followed by one
        try on a new one. Every call of the agent is idempotent.
        """
        kept = self._connection.sock is not None
        try:
            return self._exchange(method, path, headers, body)
        except self._errors as error:
            self._connection.close()
            if not kept or isinstance(error, TimeoutError):
                raise UnreachableError(f"{type(error).__name__}: {error}") from None
        try:
            return self._exchange(method, path, headers, body)
        except self._errors as error:
            self._connection.close()
            raise UnreachableError(f"{type(error).__name__}: {error}") from None

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self._connection.close()

    def _exchange(self, method: str, path: str, headers: dict[str, str], body: object) -> Answer:
        content = body if isinstance(body, bytes) else None
        if body is not None and content is None:
            content = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
            headers = {**headers, "Content-Type": "application/json"}
        self._connection.request(method, self._prefix + path, content, headers)
        until = time.monotonic() + WHOLE_FACTOR * self._timeout_seconds
        self._connection.response_class = partial(FinalResponse, until)  # type: ignore[assignment]
        response = self._connection.getresponse()
        raw = response.read(MAX_ANSWER_BYTES)
        if not response.isclosed():  # too long: the rest would be read as the next response
            self._connection.close()
        if response.length:  # `read` with a size cuts an answer off without a word
            raise http.client.IncompleteRead(raw, response.length)
        given = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, raw.decode("utf-8", "replace"), given)
