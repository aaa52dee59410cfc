"""The Engine API, for what docker's own client cannot do.

A variable's value may have newlines, which no env file holds, and a pull's progress is a stream of
objects, which the client shows on a terminal alone. The connection is the client's: `docker system
dial-stdio` reaches the engine as every other docker command does, whatever DOCKER_HOST or a context
say (a socket, TLS, ssh). Paths have no version: the engine then takes its own latest.
https://docs.docker.com/reference/api/engine/
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from .environment import environment_for_children
from .errors import EngineError

CONNECT_SECONDS = 15.0
READ_BYTES = 64 * 1024


class EngineAnswer(NamedTuple):
    """A response of the engine: its status and its JSON, None if it is none."""

    status: int
    body: Any

    @property
    def message(self) -> str:
        """Return the engine's error message."""
        body = self.body if isinstance(self.body, dict) else {}
        return str(body.get("message") or f"the engine answered with status {self.status}")


class EngineApi:
    """One connection to the engine. Only `close` is thread-safe: it ends a call under way."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._client = subprocess.Popen(
                    ["docker", "system", "dial-stdio"],
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=subprocess.PIPE,
                    env=environment_for_children(os.environ),
                    start_new_session=True,
                )
        except (OSError, ValueError) as error:
            ours.close()
            raise EngineError(f"docker could not be started: {error}") from None
        self._socket = ours
        self._closing = threading.Lock()
        self._connection = http.client.HTTPConnection("docker")
        self._connection.sock = ours

    def request(
        self, method: str, path: str, body: object = None, seconds: float = CONNECT_SECONDS
    ) -> EngineAnswer:
        """Send one request, with *body* as JSON; raises EngineError without an answer in time."""
        with self._errors():
            response = self._send(method, path, body, {}, seconds)
            return EngineAnswer(response.status, _parsed(response.read()))

    def stream(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> Iterator[Any]:
        """Send one request, and yield each JSON object of its response as it comes.

        Yields an EngineAnswer alone if the status is an error. *seconds* is the longest silence.
        """
        with self._errors():
            response = self._send(method, path, None, headers or {}, seconds)
            if response.status >= 300:
                yield EngineAnswer(response.status, _parsed(response.read()))
                return
            for line in _lines(response):
                if line.strip():
                    yield _parsed(line)

    def close(self) -> None:
        """End the connection, and with it what runs on it (a pull)."""
        with self._closing:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._client.kill()
            self._client.wait()
            if self._client.stderr:
                self._client.stderr.close()
            self._socket.close()  # a response that another thread reads keeps it open until its end

    def _send(
        self,
        method: str,
        path: str,
        body: object,
        headers: Mapping[str, str],
        seconds: float | None,
    ) -> http.client.HTTPResponse:
        self._socket.settimeout(seconds)
        content = None if body is None else json.dumps(body).encode()
        sent = {**headers, **({"Content-Type": "application/json"} if content else {})}
        self._connection.request(method, path, content, sent)
        return self._connection.getresponse()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            raise EngineError("the container engine did not answer in time") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise EngineError(self._trouble() or f"the container engine: {error}") from None

    def _trouble(self) -> str:
        """Return why docker's client has ended: it cannot reach the engine."""
        try:
            _, said = self._client.communicate(timeout=1.0)
        except (subprocess.TimeoutExpired, ValueError, OSError):
            return ""
        return bytes(said).decode("utf-8", "replace").strip()


def _lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yield the lines of a response. To read them as a file's would take a broken one for ended."""
    begun = b""
    while data := response.read1(READ_BYTES):
        *ended, begun = (begun + data).split(b"\n")
        yield from ended
    yield begun


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None
