"""A service of a private network that an engine takes for a registry: whatever it answers.

What it answers has `SECRET` wherever a service, or a registry, may put what it likes.
"""

from __future__ import annotations

import json
import socketserver
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.servers.threads import in_a_thread

SECRET = "banner-canary"
VERSION = "Docker-Distribution-Api-Version: registry/2.0"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def _answer(status: str, body: str, *headers: str) -> str:
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join([*lines, "", body])


def _errors(code: str) -> str:
    fault = {"code": code, "message": f"{SECRET} said {code}", "detail": {SECRET: SECRET}}
    return json.dumps({"errors": [fault]})


JSON, PAGE = "Content-Type: application/json", f"Content-Type: text/{SECRET}"
READY = _answer("200 OK", "{}", JSON, VERSION)
REALM = f'realm="http://{{address}}/token-{SECRET}"'
BEARER = f'WWW-Authenticate: Bearer {REALM},service="{SECRET}"'

ANSWERS: dict[str, tuple[str, str]] = {
    # To /v2/, and to everything else.
    "ssh": (f"SSH-2.0-{SECRET}\r\n",) * 2,
    "redis": (f"-ERR unknown command '{SECRET}'\r\n",) * 2,
    "page": (_answer("200 OK", f"<html>{SECRET}</html>", PAGE),) * 2,
    **{
        f"page of {status[:3]}": (_answer(status, f"<html>{SECRET}</html>", PAGE),) * 2
        for status in ("400 Bad Request", "403 Forbidden", "404 Not Found", f"500 {SECRET}")
    },
    **{
        f"error {code or 'without a code'}": (READY, _answer(status, _errors(code), JSON, VERSION))
        for status, code in (
            ("404 Not Found", "MANIFEST_UNKNOWN"),
            ("404 Not Found", "NAME_UNKNOWN"),
            ("404 Not Found", SECRET),
            ("401 Unauthorized", "UNAUTHORIZED"),
            ("403 Forbidden", "DENIED"),
            ("429 Too Many Requests", "TOOMANYREQUESTS"),
            ("400 Bad Request", "UNSUPPORTED"),
            ("500 Internal Server Error", "UNKNOWN"),
            ("503 Service Unavailable", "UNAVAILABLE"),
            ("404 Not Found", ""),
        )
    },
    "redirect": (READY, _answer("307 Moved", "", f"Location: http://{{address}}/{SECRET}")),
    "token": (_answer("401 Unauthorized", _errors("UNAUTHORIZED"), JSON, VERSION, BEARER),) * 2,
    "basic": (
        _answer("401 Unauthorized", SECRET, f'WWW-Authenticate: Basic realm="{SECRET}"', VERSION),
    )
    * 2,
    "manifest of another type": (READY, _answer("200 OK", "{}", f"Content-Type: a/{SECRET}")),
    "manifest that is none": (READY, _answer("200 OK", SECRET, f"Content-Type: {MANIFEST}")),
    "manifest of another image": (
        READY,
        _answer(
            "200 OK",
            json.dumps({"schemaVersion": 2, "mediaType": SECRET, "config": {"digest": SECRET}}),
            f"Content-Type: {MANIFEST}",
        ),
    ),
}


class InternalService:
    """The service; `calls` are the first lines of requests, in order."""

    def __init__(self) -> None:
        self.kind = "page"
        self.calls: list[str] = []
        self._server = _Server(self)
        self.port = self._server.server_address[1]
        self.host = f"127.0.0.1:{self.port}"

    @contextmanager
    def serving(self) -> Iterator[InternalService]:
        with in_a_thread(self._server):
            yield self

    def answer(self, line: str) -> bytes:
        """Return the answer to a request's first line."""
        self.calls.append(line)
        ready, other = ANSWERS[self.kind]
        text = ready if line.split(" ")[1:2] == ["/v2/"] else other
        return text.replace("{address}", self.host).encode()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, service: InternalService) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.service = service

    def handle_error(self, *_args: object) -> None:
        """Pass over a client that has gone away."""


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        line = self.rfile.readline(4096)
        if line.startswith(b"\x16"):  # the engine tries TLS first
            self.server.service.calls.append("TLS")
            return
        while self.rfile.readline(4096).strip():
            pass
        self.wfile.write(self.server.service.answer(line.decode("latin-1").strip()))
