"""The API before old clients, those who send much that is no body, and link-local addresses."""

import gzip
import ipaddress
import json
import re
from pathlib import Path

import pytest

from services.api.http.server import KEEP_ALIVE_SECONDS, bind, bind_for_each
from shared.runtime.http_protocol import HEAD_BYTES
from tests.support.api.served_world import ServedWorld
from tests.support.servers.raw_http import connect, exchange

HOST = b"Host: localhost\r\n"
CHUNKED = HOST + b"Transfer-Encoding: chunked\r\n\r\n"
JOB = b'{"docker_image": "alpine", "scheduled_for": "now"}'


def whole_answer(served: ServedWorld, request: bytes) -> tuple[bytes, bytes]:
    """Return head and body of the answer up to the connection's end."""
    with connect(served.port) as sock:
        sock.sendall(request)
        got = b""
        while data := sock.recv(65_536):
            got += data
    head, _, body = got.partition(b"\r\n\r\n")
    return head.lower(), body


# -- HTTP/1.0 has no chunks: `ab`, old proxies and health checks


@pytest.mark.parametrize("keep", [b"", b"Connection: keep-alive\r\n"])
def test_an_answer_of_unknown_length_ends_with_the_connection(
    served: ServedWorld, keep: bytes
) -> None:
    agent = served.do(served.world.running())
    served.do(served.world.report(agent, lines=["hello"]))
    served.do(served.world.call_back(agent, {}))
    for path in (b"/list?limit=all", b"/jobs/%d/logs" % agent.job_id):
        head, body = whole_answer(served, b"GET " + path + b" HTTP/1.0\r\n" + keep + b"\r\n")
        assert head.startswith(b"http/1.1 200 ")
        assert b"transfer-encoding" not in head
        if path.startswith(b"/list"):
            assert json.loads(body)
        else:
            assert body == b"hello\n"
    path = b"/jobs/%d/logs?follow=1" % agent.job_id
    head, body = whole_answer(served, b"GET " + path + b" HTTP/1.0\r\n\r\n")
    assert body.startswith(b"id: ")
    assert body.endswith(b"}\n\n")


def test_answers_of_known_length_are_the_same_in_http_1_0(served: ServedWorld) -> None:
    for line, length in (
        (b"GET /healthz", 19),
        (b"HEAD /healthz", 0),
        (b"HEAD /list?limit=all", 0),
    ):
        head, body = whole_answer(served, line + b" HTTP/1.0\r\n\r\n")
        assert (head.startswith(b"http/1.1 200 "), len(body)) == (True, length)


# -- what is no body has a bound too


@pytest.mark.parametrize(
    ("line", "status"),
    [(b"POST /schedule", b"431"), (b"GET /healthz", b"200"), (b"POST /agent/claim", b"401")],
)
@pytest.mark.parametrize(
    "start",
    [b"0\r\nX-Trailer: ", b"0\r\n" + b"X-T: x\r\n" * 9_000, b"5;x="],
    ids=["one trailer", "many trailers", "an extension"],
)
def test_trailers_and_extensions_are_not_read_without_end(
    served: ServedWorld, line: bytes, status: bytes, start: bytes
) -> None:
    with connect(served.port) as sock:
        sock.settimeout(10)  # a body may take 20 s
        sock.sendall(line + b" HTTP/1.1\r\n" + CHUNKED + start[:100])
        sock.sendall(start[100:] + b"x" * 1_000_000)
        answer = b"".join(iter(lambda: sock.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert (b"trailers" in answer) == (status == b"431")


def test_a_body_in_small_chunks_with_extensions_and_trailers_is_taken(served: ServedWorld) -> None:
    chunks = b"".join(b"1;x=%s\r\n%c\r\n" % (b"x" * 3_000, byte) for byte in JOB)
    ends = b"0\r\nX-Checksum: " + b"x" * 8_000 + b"\r\n\r\n"
    for parts in ([chunks + ends], [chunks[:100_000], chunks[100_000:], ends]):
        head = b"POST /schedule HTTP/1.1\r\n" + CHUNKED
        [answer] = exchange(served.port, head, *parts, end=True)
        assert answer.status == 201, answer


@pytest.mark.parametrize("size", [HEAD_BYTES - 10, HEAD_BYTES, HEAD_BYTES + 5_000])
def test_a_target_that_is_too_long_is_a_431_however_it_arrives(
    served: ServedWorld, size: int
) -> None:
    request = b"GET /list?label=a:".ljust(size + 4, b"b") + b" HTTP/1.1\r\n" + HOST + b"\r\n"
    [answer] = exchange(served.port, request, end=True)
    expected = 200 if size < HEAD_BYTES else 431
    assert (answer.status, isinstance(answer.json, list)) == (expected, expected == 200)
    if expected == 431:
        assert "larger than" in answer.json["message"]


# -- a compressed body


@pytest.mark.parametrize(("coding", "status"), [("gzip", 400), ("br", 400), ("Identity", 201)])
def test_a_compressed_body_is_refused_for_what_it_is(
    served: ServedWorld, coding: str, status: int
) -> None:
    body = gzip.compress(JOB) if coding == "gzip" else JOB
    head = b"POST /schedule HTTP/1.1\r\n" + HOST + b"Content-Encoding: %s\r\n" % coding.encode()
    size = b"Content-Length: %d\r\n\r\n" % len(body)
    [answer] = exchange(served.port, head + size + body, end=True)
    assert answer.status == status
    if status == 400:
        assert answer.json["message"] == (
            f"the body has Content-Encoding {coding!r}: send it uncompressed"
        )


# -- a load balancer keeps connections for its next requests


def test_the_load_balancer_and_not_the_api_closes_a_connection_that_is_idle() -> None:
    template = (Path(__file__).parents[2] / "deploy" / "template.yaml").read_text()
    [idle] = re.findall(r'idle_timeout\.timeout_seconds, Value: "([0-9]+)"', template)
    assert int(idle) < KEEP_ALIVE_SECONDS


# -- a link-local address is one of an interface


def link_local() -> str | None:
    """Return this machine's first link-local address with its zone."""
    for line in Path("/proc/net/if_inet6").read_text().splitlines():
        digits, *_, name = line.split()
        address = ipaddress.IPv6Address(int(digits, 16))
        if address.is_link_local:
            return f"{address}%{name}"
    return None


def test_a_link_local_address_is_listened_on() -> None:
    host = link_local()
    if host is None:
        pytest.skip("this machine has no link-local address")
    for sock in (bind(host, 0), *bind_for_each(host, 0, 2), bind(f"[{host}]", 0)):
        with sock:
            assert sock.getsockname()[3] > 0
