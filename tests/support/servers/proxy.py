"""A reverse proxy before the API, which also answers in its place: as a gateway or a cache does."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import urlsplit

from tests.support.servers.threads import in_a_thread

DROPPED = {"connection", "transfer-encoding", "content-length", "date", "server"}


class Page(NamedTuple):
    """An answer that is not the API's."""

    status: int
    body: str
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/json"),)


def kind_of(path: str) -> str:
    """Return which of an agent's calls this is."""
    for kind in ("claim", "report", "callback", "healthz"):
        if kind in path:
            return kind
    return "other"


class Proxy:
    """Forwards to the API at *url*, under the path *prefix*.

    The pages are answered first, each once; `always` is answered to every call of its kind.
    *hides*: headers that it takes out of the API's answers. `spoils`: what it takes out of the
    calls of a kind, each once: a header, or "half the body".
    """

    def __init__(self, url: str, *, prefix: str = "", hides: tuple[str, ...] = ()) -> None:
        self.pages: dict[str, list[Page]] = {}
        self.always: dict[str, Page] = {}
        self.spoils: dict[str, list[str]] = {}
        self.forwarded: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(self, url, prefix, hides))
        self.url = f"http://127.0.0.1:{self._server.server_port}{prefix}"

    def page_for(self, kind: str) -> Page | None:
        """Return the page that the proxy answers now, None if it forwards the call."""
        pages = self.pages.get(kind)
        return pages.pop(0) if pages else self.always.get(kind)

    @contextmanager
    def serving(self) -> Iterator[Proxy]:
        with in_a_thread(self._server):
            yield self


def handler_of(
    proxy: Proxy, url: str, prefix: str, hides: tuple[str, ...]
) -> type[BaseHTTPRequestHandler]:
    target = urlsplit(url)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            kind = kind_of(self.path)
            page = proxy.page_for(kind) or self._forward(kind, body)
            with suppress(ConnectionError):  # the agent was ended while it waited
                self.send_response(page.status)
                for name, value in page.headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(page.body.encode())))
                self.end_headers()
                self.wfile.write(page.body.encode())

        def _forward(self, kind: str, body: bytes) -> Page:
            proxy.forwarded.append(kind)
            assert self.path.startswith(f"{prefix}/")
            upstream = http.client.HTTPConnection(target.hostname or "", target.port, timeout=20)
            headers = dict(self.headers.items())
            if proxy.spoils.get(kind):
                spoilt = proxy.spoils[kind].pop(0)
                if spoilt == "half the body":
                    body = body[: len(body) // 2]
                    spoilt = "Content-Length"
                headers.pop(spoilt)
            upstream.request(self.command, self.path.removeprefix(prefix), body, headers)
            answer = upstream.getresponse()
            text = answer.read().decode()
            upstream.close()
            hidden = {*DROPPED, *(name.lower() for name in hides)}
            kept = [each for each in answer.getheaders() if each[0].lower() not in hidden]
            return Page(answer.status, text, tuple(kept))

        do_GET = do_POST = do_PUT = _handle  # noqa: N815 - http.server's names

        def log_message(self, *args: object) -> None:
            pass

    return Handler
