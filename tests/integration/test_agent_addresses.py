"""The agent's calls to an API at any kind of address."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from agent.docker_job_agent.http_client import Http


@contextmanager
def answering(host: str) -> Iterator[tuple[int, list[bytes]]]:
    """Answer one request on *host*; give the port, and the request's head."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    heads: list[bytes] = []
    with socket.create_server((host, 0), family=family) as server:

        def answer() -> None:
            talking, _ = server.accept()
            with talking:
                heads.append(talking.recv(65_536))
                talking.sendall(b"HTTP/1.1 200 OK\r\nX-Any: 1\r\nContent-Length: 2\r\n\r\n{}")

        thread = threading.Thread(target=answer)
        thread.start()
        yield server.getsockname()[1], heads
        thread.join()


@pytest.mark.parametrize(
    ("host", "url", "path", "named"),
    [
        ("127.0.0.1", "http://127.0.0.1:{}", "/agent/claim", "127.0.0.1:{}"),
        ("127.0.0.1", "http://localhost:{}/", "/agent/claim", "localhost:{}"),
        ("127.0.0.1", "HTTP://127.0.0.1:{}/jobs/", "/jobs/agent/claim", "127.0.0.1:{}"),
        ("::1", "http://[::1]:{}", "/agent/claim", "[::1]:{}"),
        ("::1", "http://[0:0:0:0:0:0:0:1]:{}/a/b", "/a/b/agent/claim", "[0:0:0:0:0:0:0:1]:{}"),
    ],
)
def test_the_api_is_found_at_its_url(host: str, url: str, path: str, named: str) -> None:
    with answering(host) as (port, heads):
        http = Http(url.format(port), 20.0)
        answer = http.request("POST", "/agent/claim", {}, {"a": 1})
        http.close()
    assert (answer.status, answer.text, answer.headers["x-any"]) == (200, "{}", "1")
    assert heads[0].startswith(f"POST {path} HTTP/1.1\r\n".encode())
    assert f"Host: {named.format(port)}\r\n".encode() in heads[0]


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("http://[::1]", 80),
        ("https://[fd00::7]/a", 443),
        ("https://api", 443),
        ("http://api:0080", 80),
    ],
)
def test_a_url_without_a_port_has_that_of_its_scheme(url: str, port: int) -> None:
    connection = Http(url, 1.0)._connection
    assert connection.port == port
    assert ":" not in connection.host or not connection.host.startswith(("[", ":]"))
