"""HTTP in bytes: what a client may send that no library sends, and every answer to it."""

import json
import socket
from typing import Any, NamedTuple

PATIENCE = 20.0


class RawAnswer(NamedTuple):
    """One answer of a connection."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def connect(port: int, host: str = "127.0.0.1") -> socket.socket:
    """Open a connection; no read of it waits for ever."""
    return socket.create_connection((host, port), timeout=PATIENCE)


def exchange(port: int, *parts: bytes, end: bool = False, head: bool = False) -> list[RawAnswer]:
    """Return every answer to these bytes, up to the server's end of the connection.

    *end*: end our side first, as `nc -N` does. *head*: the requests are HEAD.
    """
    with connect(port) as talking:
        for part in parts:
            talking.sendall(part)
        if end:
            talking.shutdown(socket.SHUT_WR)
        return read_answers(b"".join(iter(lambda: talking.recv(65_536), b"")), head=head)


def read_answers(raw: bytes, *, head: bool = False) -> list[RawAnswer]:
    """Read the answers in *raw*, which are complete; an interim one (100) has no body."""
    found = []
    while raw:
        text, separator, raw = raw.partition(b"\r\n\r\n")
        assert separator, text
        line, *fields = text.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value for name, _, value in (each.partition(": ") for each in fields)
        }
        assert line.startswith("HTTP/1.1 "), line
        status = int(line.split()[1])
        body = b""
        if headers.get("transfer-encoding") == "chunked" and not head:
            body, raw = _chunks(raw)
        elif status >= 200 and not head:
            size = int(headers.get("content-length", "0"))
            assert len(raw) >= size, "the body is cut off"
            body, raw = raw[:size], raw[size:]
        found.append(RawAnswer(status, headers, body))
    return found


def _chunks(raw: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        size, _, raw = raw.partition(b"\r\n")
        count = int(size, 16)
        body, raw = body + raw[:count], raw[count + 2 :]
        if count == 0:
            return body, raw
