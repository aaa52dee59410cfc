"""A server that answers what a test wrote: also what the real API answers only at bad times."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Answer(NamedTuple):
    """An answer; a body without a length ends with the connection, which is how a stream is cut."""

    status: int = 200
    body: str = ""
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/json"),)


class Seen(NamedTuple):
    """A request that came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


def events(*texts: str) -> Answer:
    """Make an answer of server-sent events."""
    return Answer(200, "".join(texts), (("Content-Type", "text/event-stream; charset=utf-8"),))


@dataclass
class ScriptedApi:
    """Gives the answers in their order, the last one again and again."""

    answers: list[Answer]
    url: str = ""
    seen: list[Seen] = field(default_factory=list)

    def answer(self) -> Answer:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@contextmanager
def scripted_api(*answers: Answer, tls: ssl.SSLContext | None = None) -> Iterator[ScriptedApi]:
    """Serve *answers* during the block, by HTTPS with *tls*."""
    api = ScriptedApi(list(answers))

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            api.seen.append(Seen(self.command, self.path, dict(self.headers.items()), body))
            answer = api.answer()
            with suppress(ConnectionError):
                self.send_response(answer.status)
                for name, value in answer.headers:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.body.encode())

        do_GET = do_POST = do_DELETE = _handle  # noqa: N815 - http.server's names

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    api.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
