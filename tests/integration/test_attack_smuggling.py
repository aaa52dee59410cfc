"""Request smuggling: a request hidden in another one, as a proxy in front would let it through.

Each probe hides a DELETE where one parser sees a body and another a second request. The shapes are
those of James Kettle's "HTTP Desync Attacks" (2019) and of RFC 9112, sections 5.2, 6.3 and 11.2.
Refusing with 400 and closing is what 6.3 asks of a server. Further shapes: `test_http_clients.py`.
"""

import pytest

from tests.support.api.served_world import ServedWorld
from tests.support.servers.raw_http import connect, exchange, read_answers

HOST = b"Host: localhost\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
POST = b"POST /schedule HTTP/1.1\r\n" + HOST


def hidden(job_id: int) -> bytes:
    """Return the request that must never be carried out."""
    return b"DELETE /jobs/%d HTTP/1.1\r\n" % job_id + HOST + b"\r\n"


def in_length(lines: bytes, inner: bytes) -> bytes:
    """Return a POST whose Content-Length covers *inner*, behind an empty last chunk."""
    body = b"0\r\n\r\n" + inner
    return POST + b"Content-Length: %d\r\n" % len(body) + lines + b"\r\n" + body


def in_chunk(lines: bytes, inner: bytes) -> bytes:
    """Return a POST with *inner* in a chunk, which a reader of the length takes as a request."""
    chunk = b"%x\r\n" % len(inner) + inner + b"\r\n0\r\n\r\n"
    return POST + b"Content-Length: 4\r\n" + lines + b"\r\n" + chunk


CODINGS = {
    "chunked": CHUNKED,
    "two of them": CHUNKED + CHUNKED,
    "a space before the colon": b"Transfer-Encoding : chunked\r\n",
    "a tab before the value": b"Transfer-Encoding:\tchunked\r\n",
    "a vertical tab": b"Transfer-Encoding: \x0bchunked\r\n",
    "a form feed": b"Transfer-Encoding: \x0cchunked\r\n",
    "a NUL": b"Transfer-Encoding: chunked\0\r\n",
    "in quotes": b'Transfer-Encoding: "chunked"\r\n',
    "in capitals": b"TRANSFER-ENCODING: CHUNKED\r\n",
    "of mixed case": b"tRANSFER-ENCODING: cHuNkEd\r\n",
    "with a parameter": b"Transfer-Encoding: chunked;q=1\r\n",
    "after a comma": b"Transfer-Encoding: ,chunked\r\n",
    "before a comma": b"Transfer-Encoding: chunked,\r\n",
    "folded": b"Transfer-Encoding:\r\n chunked\r\n",
    "after a bare line feed": b"X: a\nTransfer-Encoding: chunked\r\n",
    "after a bare carriage return": b"X: a\rTransfer-Encoding: chunked\r\n",
    "ended by a bare line feed": b"Transfer-Encoding: chunked\n",
    "with an underscore": b"Transfer_Encoding: chunked\r\n",
    "with a letter before": b"XTransfer-Encoding: chunked\r\n",
    "with a line before the colon": b"Transfer-Encoding\r\n: chunked\r\n",
    "identity": b"Transfer-Encoding: identity\r\n",
    "a word that begins like it": b"Transfer-Encoding: chunkedx\r\n",
    "a named connection option": b"Connection: Transfer-Encoding\r\n" + CHUNKED,
}
NO_CODING = ("with an underscore", "with a letter before")
"""Other headers: their request has a length alone, and the body is what that covers."""


UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n"
"""Such a head is parsed twice (`shared/runtime/http_protocol.py`)."""


@pytest.mark.parametrize("upgrade", [b"", UPGRADE], ids=["plain", "upgrade"])
@pytest.mark.parametrize("shape", [in_length, in_chunk])
def test_no_length_and_coding_hide_a_request(
    served: ServedWorld, shape: object, upgrade: bytes
) -> None:
    assert callable(shape)
    victim = served.do(served.world.post())["id"]
    refused = 0
    for name, lines in CODINGS.items():
        if shape is in_chunk and name in NO_CODING:
            continue  # what follows the four bytes is a request of the client's own
        request = shape(upgrade + lines, hidden(victim))
        answers = exchange(served.port, request, end=True)
        assert [each.status for each in answers] == [400], name
        refused += 1
        assert served.do(served.world.status(victim))["status"] == "SCHEDULED", name
    print(f"{refused} of {refused} requests with a length and a coding refused")


LENGTHS = (
    b"+%d", b"-%d", b"-0", b"0x%x", b"%d,", b",%d", b"%d;", b'"%d"', b"%d.0", b"%de0", b"1_%d",
    b"%d %d", b"%d\0", b"\xd9\xa5", b"18446744073709551616", b"99999999999999999999%d", b"%d\x0b",
)  # fmt: skip


@pytest.mark.parametrize("upgrade", [b"", UPGRADE], ids=["plain", "upgrade"])
def test_no_odd_length_hides_a_request(served: ServedWorld, upgrade: bytes) -> None:
    victim = served.do(served.world.post())["id"]
    inner = hidden(victim)
    for length in LENGTHS:
        text = length
        for form in (b"%d", b"%x"):
            text = text.replace(form, form % len(inner))
        request = POST + upgrade + b"Content-Length: " + text + b"\r\n\r\n" + inner
        answers = exchange(served.port, request, end=True)
        assert [each.status for each in answers] == [400], length
        assert served.do(served.world.status(victim))["status"] == "SCHEDULED", length
    print(f"{len(LENGTHS)} of {len(LENGTHS)} odd lengths refused")


CHUNKS = {
    "a size with a sign": b"+4\r\n",
    "a negative size": b"-4\r\n",
    "a size in hexadecimal notation": b"0x4\r\n",
    "a size with an underscore": b"0_4\r\n",
    "a size with a space before": b" 4\r\n",
    "no size": b"\r\n",
    "a size beyond 64 bits": b"1" + b"0" * 16 + b"4\r\n",
    "a size of another digit": "٤\r\n".encode(),
    "a size ended by a line feed": b"4\n",
    "a size ended by a carriage return": b"4\rX",
    "an extension with a line feed": b"4;a=b\nX\r\n",
    "an extension with a NUL": b"4;a=\0\r\n",
}


def test_no_chunk_hides_a_request(served: ServedWorld) -> None:
    victim = served.do(served.world.post())["id"]
    for name, size in CHUNKS.items():
        body = size + b"null\r\n0\r\n\r\n"
        answers = exchange(served.port, POST + CHUNKED + b"\r\n" + body + hidden(victim), end=True)
        assert [each.status for each in answers] == [400], name
        assert served.do(served.world.status(victim))["status"] == "SCHEDULED", name
    # The data of a chunk may be longer or shorter than its size: the rest is no request.
    for data in (b"2\r\nnull\r\n0\r\n\r\n", b"8\r\nnull\r\n0\r\n\r\n", b"4\r\nnullX0\r\n\r\n"):
        answers = exchange(served.port, POST + CHUNKED + b"\r\n" + data + hidden(victim), end=True)
        assert [each.status for each in answers] == [400]
        assert served.do(served.world.status(victim))["status"] == "SCHEDULED"
    print(f"{len(CHUNKS) + 3} of {len(CHUNKS) + 3} broken chunks refused")


def test_an_extension_of_a_chunk_or_a_trailer_is_no_request(served: ServedWorld) -> None:
    victim = served.do(served.world.post())["id"]
    inner = hidden(victim).replace(b"\r\n", b" ")
    for body in (
        b'4;a="' + inner + b'"\r\nnull\r\n0\r\n\r\n',
        b"4;" + b"x" * 2000 + b"\r\nnull\r\n0\r\n\r\n",
        b"4\r\nnull\r\n0\r\nX: " + inner + b"\r\nContent-Length: 50\r\n\r\n",
        b"4\r\nnull\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    ):
        answers = exchange(served.port, POST + CHUNKED + b"\r\n" + body, end=True)
        assert [each.status for each in answers] == [400]  # null is no job, or it is refused
    assert served.do(served.world.status(victim))["status"] == "SCHEDULED"


HEADS = {
    "HTTP/2 with prior knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00",
    "a TLS handshake": b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + b"\0" * 64,
    "a PROXY line": b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n",
    "a PROXY head of version 2": b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + b"\x7f\0\0\1" * 3,
    "a tab in the line": b"GET\t/healthz\tHTTP/1.1\r\n" + HOST + b"\r\n",
    "a line ended by a line feed": b"GET /healthz HTTP/1.1\n" + HOST + b"\r\n",
    "a line ended by a carriage return": b"GET /healthz HTTP/1.1\rX: a\r\n" + HOST + b"\r\n",
    "a method of another case": b"get /healthz HTTP/1.1\r\n" + HOST + b"\r\n",
    "a space in a name": b"GET /healthz HTTP/1.1\r\n" + HOST + b"X Y: a\r\n\r\n",
    "no name": b"GET /healthz HTTP/1.1\r\n" + HOST + b": a\r\n\r\n",
    "no colon": b"GET /healthz HTTP/1.1\r\n" + HOST + b"DELETE /jobs/1 HTTP/1.1\r\n\r\n",
    "a first line that is folded": b"GET /healthz HTTP/1.1\r\n Host: evil.example\r\n" + HOST,
}


def test_what_is_no_http_ends_the_connection_before_what_follows(served: ServedWorld) -> None:
    victim = served.do(served.world.post())["id"]
    for name, head in HEADS.items():
        answers = exchange(served.port, head + hidden(victim), end=True)
        assert [each.status for each in answers] == [400], name
        assert answers[0].headers["connection"] == "close"
        assert served.do(served.world.status(victim))["status"] == "SCHEDULED", name
    print(f"{len(HEADS)} of {len(HEADS)} broken heads refused")


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        (b"http://localhost/list", b"localhost", 200),
        (b"http://evil.example/list", b"evil.example", 421),
        (b"http://localhost/list", b"evil.example", 421),
        (b"http://localhost@evil.example/list", b"evil.example", 421),
        (b"//evil.example/list", b"localhost", 404),
        (b"/list/", b"localhost", 404),
        (b"/%2e%2e/list", b"localhost", 404),
        (b"/x/../list", b"localhost", 404),
        (b"/list;a=b", b"localhost", 404),
        (b"/list%00", b"localhost", 404),
        (b"/\\list", b"localhost", 404),
    ],
)
def test_a_target_is_one_route_whatever_its_form(
    served: ServedWorld, target: bytes, host: bytes, status: int
) -> None:
    """A proxy's rules are for paths: no other spelling of one reaches its route."""
    request = b"GET " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"
    [answer] = exchange(served.port, request, end=True)
    assert answer.status == status
    assert "location" not in answer.headers


def test_a_key_of_one_request_is_not_for_the_next_of_its_connection(served: ServedWorld) -> None:
    agent = served.do(served.world.running())
    line = b"POST /agent/jobs/%d/report HTTP/1.1\r\n" % agent.job_id
    head = line + HOST + b"Content-Length: 2\r\n"
    token = b"Authorization: Bearer " + agent.token.encode() + b"\r\n"
    with connect(served.port) as talking:
        talking.sendall((head + token + b"\r\n{}" + head + b"\r\n{}") * 3)
        talking.sendall(head + b"Connection: close\r\n\r\n{}")
        answers = read_answers(b"".join(iter(lambda: talking.recv(65_536), b"")))
    assert [each.status for each in answers] == [200, 401, 200, 401, 200, 401, 401]
