"""The API before real clients: what they send beside a plain request, as bytes on a socket."""

import json
import socket
from collections.abc import Iterator

import pytest

from tests.support.api.served_world import ServedWorld
from tests.support.servers.raw_http import connect, exchange, read_answers

JOB = b'{"docker_image": "alpine", "scheduled_for": "now"}'
HOST = b"Host: localhost\r\n"
CLOSE = b"Connection: close\r\n"
LIST = b"GET /list HTTP/1.1\r\n" + HOST
EXPECT = b"Expect: 100-continue\r\n"
JUNK = b"\x16\x03\x01junk\r\n\r\n"


def post(*headers: bytes, body: bytes = JOB, length: int | None = None) -> bytes:
    """Return a POST of a job."""
    size = b"Content-Length: %d\r\n" % (len(body) if length is None else length)
    return b"POST /schedule HTTP/1.1\r\n" + HOST + size + b"".join(headers) + b"\r\n" + body


def chunked(*headers: bytes, body: bytes = JOB) -> bytes:
    """Return a POST of a job in two chunks."""
    head = b"POST /schedule HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n"
    parts = (body[:10], body[10:], b"")
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return head + b"".join(headers) + b"\r\n" + chunks


def jobs(served: ServedWorld) -> int:
    """Return how many jobs there are."""
    [answer] = exchange(served.port, LIST + CLOSE + b"\r\n")
    return len(answer.json)


# -- a request to upgrade the protocol

UPGRADES = {
    "Java's HttpClient": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n",
    "a websocket": b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    "TLS": b"upgrade: TLS/1.0\r\nconnection: upgrade\r\n",
    "two": b"Upgrade: h2c, websocket\r\nUpgrade: foo\r\nConnection: Upgrade\r\n",
}


@pytest.mark.parametrize("upgrade", UPGRADES)
@pytest.mark.parametrize("request_of", [post, chunked], ids=["length", "chunked"])
def test_a_request_that_would_upgrade_keeps_its_body_and_its_connection(
    served: ServedWorld, upgrade: str, request_of: object
) -> None:
    assert callable(request_of)
    whole = request_of(UPGRADES[upgrade])
    for parts in ([whole], [whole[:40], whole[40:-20], whole[-20:]], [whole + whole]):
        before = jobs(served)
        answers = exchange(served.port, *parts, LIST + UPGRADES[upgrade] + b"\r\n", end=True)
        *posted, listed = answers
        assert {answer.status for answer in posted} == {201}
        assert len(listed.json) == before + len(posted)
        assert all("upgrade" not in answer.headers for answer in answers)


@pytest.mark.parametrize("upgrade", UPGRADES)
def test_an_upgrade_is_ignored_on_every_route(served: ServedWorld, upgrade: str) -> None:
    agent = served.do(served.world.running())
    token = b"Authorization: Bearer " + agent.token.encode() + b"\r\n"
    for line, body, status in (
        (b"GET /healthz", b"", 200),
        (b"HEAD /list", b"", 200),
        (b"GET /nowhere", b"", 404),
        (b"POST /agent/jobs/%d/report" % agent.job_id, b'{"phase": null}', 200),
        (b"PUT /callback/%d" % agent.job_id, b'{"exit_code": 0}', 200),
        (b"DELETE /jobs/%d" % agent.job_id, b"", 409),
    ):
        size = b"Content-Length: %d\r\n" % len(body)
        bearer = token if body else b""  # an agent's is no API key
        head = line + b" HTTP/1.1\r\n" + HOST + bearer + size
        request = head + UPGRADES[upgrade] + b"\r\n" + body
        [answer] = exchange(served.port, request, end=True, head=line.startswith(b"HEAD"))
        assert answer.status == status, line


def test_an_upgrade_hides_no_broken_framing(served: ServedWorld) -> None:
    upgrade = UPGRADES["Java's HttpClient"]
    both = b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"
    for head in (both, b"Transfer-Encoding: identity\r\n", b"Content-Length: x\r\n"):
        request = b"POST /schedule HTTP/1.1\r\n" + HOST + upgrade + head + b"\r\n" + JOB
        [answer] = exchange(served.port, request)
        assert (answer.status, bool(answer.json["message"])) == (400, True)


@pytest.mark.parametrize("target", [b"x:443", b"/list", b"localhost:8000"])
def test_connect_is_refused(served: ServedWorld, target: bytes) -> None:
    request = b"CONNECT " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n"
    [answer] = exchange(served.port, request + LIST + b"\r\n")
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert answer.json["message"]


# -- several requests at once


@pytest.mark.parametrize("junk", [JUNK, b"GET\r\n\r\n", b"}" * 70_000, LIST + b"A : b\r\n\r\n"])
@pytest.mark.parametrize("request_of", [post, chunked], ids=["length", "chunked"])
def test_a_request_is_answered_before_the_junk_behind_it(
    served: ServedWorld, junk: bytes, request_of: object
) -> None:
    assert callable(request_of)
    for parts in ([request_of() + junk], [request_of(), junk]):
        posted, refused = exchange(served.port, *parts)
        assert (posted.status, posted.json["status"]) == (201, "SCHEDULED")
        assert (refused.status, refused.headers["connection"]) == (400, "close")
        assert refused.json["message"]


def test_pipelined_requests_are_answered_in_order(served: ServedWorld) -> None:
    before = served.do(served.world.post())["id"]
    status = b"GET /status/%d HTTP/1.1\r\n" % before + HOST + b"\r\n"
    first, second, third, last = exchange(
        served.port, post() + status + post(), LIST + b"\r\n", end=True
    )
    assert [each.status for each in (first, second, third, last)] == [201, 200, 201, 200]
    ids = [first.json["id"], second.json["id"], third.json["id"]]
    assert ids == [before + 1, before, before + 2]
    assert [job["id"] for job in last.json][:2] == [before + 2, before + 1]


def test_several_answers_are_due_before_that_to_the_junk(served: ServedWorld) -> None:
    before = jobs(served)
    answers = exchange(served.port, post() + LIST + b"\r\n" + post() + JUNK + post())
    assert [answer.status for answer in answers] == [201, 200, 201, 400]
    assert jobs(served) == before + 2


def test_what_follows_a_request_that_closes_is_neither_answered_nor_done(
    served: ServedWorld,
) -> None:
    for behind in (post(), JUNK, LIST + b"\r\n"):
        before = jobs(served)
        [answer] = exchange(served.port, post(CLOSE) + behind)
        assert (answer.status, answer.headers["connection"]) == (201, "close")
        assert jobs(served) == before + 1
    old = LIST.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n"
    assert [each.status for each in exchange(served.port, old + post())] == [200]


def test_a_body_shorter_than_its_length_is_no_request(served: ServedWorld) -> None:
    before = jobs(served)
    [answer] = exchange(served.port, post(length=len(JOB) + 1), end=True)
    assert (answer.status, answer.json["message"]) == (
        400,
        "the connection ended before the request did",
    )
    [answer] = exchange(served.port, post()[:30], end=True)
    assert answer.status == 400
    assert jobs(served) == before


def test_what_is_longer_than_its_length_is_another_request(served: ServedWorld) -> None:
    answers = exchange(served.port, post(body=JOB + JOB, length=len(JOB)))
    assert [answer.status for answer in answers] == [201, 400]


def test_a_broken_body_is_refused_after_the_answers_before_it(served: ServedWorld) -> None:
    before = jobs(served)
    broken = chunked().replace(b"\r\n0\r\n", b"\r\nzz\r\n")
    assert [each.status for each in exchange(served.port, post() + broken)] == [201, 400]
    assert [each.status for each in exchange(served.port, broken)] == [400]
    assert jobs(served) == before + 1


def test_half_a_request_cuts_off_no_answer_before_it(served: ServedWorld) -> None:
    agent = served.do(served.world.running())
    served.do(served.world.report(agent, lines=["kept"]))
    follow = b"GET /jobs/%d/logs?follow=1 HTTP/1.1\r\n" % agent.job_id + HOST + b"\r\n"
    with connect(served.port) as talking:
        talking.sendall(follow + JUNK)
        read = b""
        while b"kept" not in read:
            read += talking.recv(65_536)
        served.do(served.world.call_back(agent, {}))
        read += b"".join(iter(lambda: talking.recv(65_536), b""))
    followed, refused = read_answers(read)
    assert b"event: end" in followed.body
    assert refused.status == 400


def test_a_client_that_ends_its_side_gets_its_answer(served: ServedWorld) -> None:
    """Covers `printf … | nc -N`."""
    for whole in (post(), chunked(), LIST + b"\r\n"):
        [answer] = exchange(served.port, whole, end=True)
        assert answer.status in (200, 201)


@pytest.mark.parametrize(
    ("request_", "statuses"),
    [
        (post(CLOSE, body=b" " * 20_000_000), [413]),
        (post(EXPECT, body=b" " * 20_000_000), [413]),
        (post() + b"}" * 20_000_000, [201, 400]),
        (b"POST /schedule HTTP/1.1\r\n" + HOST + b"A : b\r\n\r\n" + b"}" * 20_000_000, [400]),
        (b"GET /" + b"x" * 20_000_000, [431]),
    ],
    ids=["close", "expect", "junk", "malformed", "head"],
)
def test_a_client_that_sends_on_gets_the_answer_too(
    served: ServedWorld, request_: bytes, statuses: list[int]
) -> None:
    """Otherwise the connection is reset, and the client loses the answer."""
    assert [answer.status for answer in exchange(served.port, request_)] == statuses


def test_a_waiting_request_gets_the_rest_of_its_body(served: ServedWorld) -> None:
    body = JOB + b" " * 300_000
    with connect(served.port) as talking:
        talking.sendall(LIST + b"\r\n" + post(body=body)[:-250_000])
        talking.sendall(b" " * 250_000 + LIST + CLOSE + b"\r\n")
        answers = read_answers(b"".join(iter(lambda: talking.recv(65_536), b"")))
    assert [answer.status for answer in answers] == [200, 201, 200]


# -- who smuggles requests

LENGTH = b"Content-Length: %d\r\n" % len(JOB)
SMUGGLED = {
    "length and coding": LENGTH + b"Transfer-Encoding: chunked\r\n",
    "coding and length": b"Transfer-Encoding: chunked\r\n" + LENGTH,
    "two lengths": LENGTH + b"Content-Length: 3\r\n",
    "one length twice": LENGTH + LENGTH,
    "a list of lengths": b"Content-Length: 50, 50\r\n",
    "a signed length": b"Content-Length: +50\r\n",
    "a hexadecimal length": b"Content-Length: 0x32\r\n",
    "an empty length": b"Content-Length:\r\n",
    "chunked and identity": b"Transfer-Encoding: chunked, identity\r\n",
    "identity and chunked": b"Transfer-Encoding: identity, chunked\r\n",
    "gzip and chunked": b"Transfer-Encoding: gzip, chunked\r\n",
    "nearly chunked": b"Transfer-Encoding: xchunked\r\n",
    "gzip, then chunked": b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
    "two codings": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    "a bare line feed": b"A: b\n" + LENGTH,
    "a space before the colon": b"Content-Length : 50\r\n",
    "a folded line": b"A: b\r\n c\r\n" + LENGTH,
    "a tab before the name": b"\tA: b\r\n" + LENGTH,
    "two hosts": LENGTH + b"Host: evil.example\r\n",
}


@pytest.mark.parametrize("shape", SMUGGLED)
@pytest.mark.parametrize("line", [b"POST /schedule", b"DELETE /jobs/1", b"GET /list"])
def test_a_request_of_unclear_length_is_refused_and_nothing_done(
    served: ServedWorld, shape: str, line: bytes
) -> None:
    job_id = served.do(served.world.post())["id"]
    before = jobs(served)
    request = (
        line.replace(b"1", b"%d" % job_id)
        + b" HTTP/1.1\r\n"
        + HOST
        + SMUGGLED[shape]
        + b"\r\n"
        + JOB
    )
    refused, *others = exchange(served.port, request, end=True)
    assert (refused.status, bool(refused.json["message"])) == (400, True)
    assert others == [] or shape == "two hosts"
    assert jobs(served) == before
    assert served.do(served.world.status(job_id))["status"] == "SCHEDULED"


@pytest.mark.parametrize("line", [b"GET /list", b"GET /list HTTP/0.9", b"GET /list HTTP/2.0"])
def test_another_version_of_http_is_refused(served: ServedWorld, line: bytes) -> None:
    [answer] = exchange(served.port, line + b"\r\n" + HOST + b"\r\n")
    assert (answer.status, bool(answer.json["message"])) == (400, True)


def test_a_coding_is_no_part_of_http_1_0(served: ServedWorld) -> None:
    before = jobs(served)
    [answer] = exchange(served.port, chunked().replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert answer.status == 400
    assert jobs(served) == before


def test_a_request_needs_a_host_from_http_1_1_on(served: ServedWorld) -> None:
    [answer] = exchange(served.port, b"GET /list HTTP/1.1\r\n" + CLOSE + b"\r\n")
    assert (answer.status, answer.json["message"]) == (400, "the request has no Host header")
    assert [each.status for each in exchange(served.port, b"GET /list HTTP/1.0\r\n\r\n")] == [200]


def test_white_space_around_the_value_of_a_header_is_no_part_of_it(served: ServedWorld) -> None:
    before = jobs(served)
    key = b"Idempotency-Key:%bpadded%b\r\n"
    answers = exchange(
        served.port,
        *(post(key % white) for white in ((b"", b""), (b" ", b" \t"), (b"\t ", b" "))),
        chunked().replace(b": chunked", b": chunked ").replace(b"localhost", b"localhost "),
        LIST + CLOSE + b"\r\n",
    )
    assert [answer.status for answer in answers] == [201, 201, 201, 201, 200]
    assert len({answer.json["id"] for answer in answers[:3]}) == 1
    assert len(answers[-1].json) == before + 2


def test_a_trailer_is_no_header(served: ServedWorld) -> None:
    before = jobs(served)
    trailers = b"0\r\nIdempotency-Key: late\r\nHost: evil.example\r\n\r\n"
    request = chunked().removesuffix(b"0\r\n\r\n") + trailers
    for _ in range(2):
        [answer] = exchange(served.port, request, end=True)
        assert answer.status == 201
    assert jobs(served) == before + 2


# -- Expect: 100-continue


@pytest.fixture
def talking(served: ServedWorld) -> Iterator[socket.socket]:
    """Open a connection."""
    with connect(served.port) as talking:
        yield talking


def test_a_client_that_waits_to_be_told_to_go_on_is_told(
    served: ServedWorld, talking: socket.socket
) -> None:
    for _ in range(2):  # on a kept connection too
        head, _, body = post(b"expect: 100-Continue\r\n").partition(b"\r\n\r\n")
        talking.sendall(head + b"\r\n\r\n")
        assert talking.recv(65_536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        talking.sendall(body)
        [answer] = read_answers(talking.recv(65_536))
        assert answer.status == 201
        assert "connection" not in answer.headers


def test_a_client_that_does_not_wait_is_answered_as_well(served: ServedWorld) -> None:
    *_, answer = exchange(served.port, post(EXPECT, CLOSE))
    assert answer.status == 201


@pytest.mark.parametrize(
    ("line", "headers", "status"),
    [
        (b"POST /schedule", b"Content-Length: 99999999\r\n", 413),
        (b"POST /agent/jobs/1/report", b"Content-Length: 10\r\n", 401),
        (b"PUT /callback/1", b"Transfer-Encoding: chunked\r\n", 401),
        (b"POST /schedule", b"Content-Length: 10\r\nOrigin: https://evil.example\r\n", 403),
        (b"POST /schedule?x=1", b"Content-Length: 10\r\n", 400),
        (b"POST /nowhere", b"Content-Length: 10\r\n", 404),
        (b"PUT /schedule", b"Content-Length: 10\r\n", 405),
        (b"POST /schedule", b"Content-Length: 10\r\nHost: localhost\r\n", 400),
    ],
)
def test_a_refused_request_waits_for_no_body_and_the_connection_ends(
    served: ServedWorld, line: bytes, headers: bytes, status: int
) -> None:
    """Otherwise the next request would be read as the body."""
    [answer] = exchange(served.port, line + b" HTTP/1.1\r\n" + HOST + EXPECT + headers + b"\r\n")
    assert (answer.status, answer.headers["connection"]) == (status, "close")
    assert answer.json["message"]


def test_an_old_client_gets_no_interim_answer(served: ServedWorld) -> None:
    [answer] = exchange(served.port, post(EXPECT).replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert answer.status == 201


# -- targets


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"/list/", 404),
        (b"//list", 404),
        (b"/LIST", 404),
        (b"/status/1/", 404),
        (b"/jobs/1/logs/", 404),
        (b"/list%2e", 404),
        (b"/./list", 404),
        (b"/status/%2e%2e/list", 404),
        (b"/list%", 404),
        (b"/status/%zz", 404),
        (b"/status/%ff", 404),
        (b"/status/%c3%a4", 404),
        (b"/status/1%2f", 404),
        (b"/nowhere%0d%0aX:%20y", 404),
        (b"//evil.example/list", 404),
        (b"/\\evil.example", 404),
        (b"*", 404),
        (b"http://localhost", 404),
        (b"http://localhost?limit=1", 404),
        (b"http://localhost/", 404),
        (b"http://localhost/list", 200),
        (b"http://localhost:8000/list?limit=1", 200),
        (b"https://evil.example/list", 200),
        (b"/%6cist", 200),
        (b"/list?limit=%zz", 400),
        (b"/list?limit=%ff", 400),
        (b"/list?%ff", 400),
        (b"/status/\xc3\xa4", 400),
        (b"/list?limit=\xff", 400),
        (b"/a\tb", 400),
        (b"http://[", 400),
        (b"localhost:80", 400),
        (b"list", 400),
    ],
)
@pytest.mark.parametrize("host", [b"localhost", b"evil.example", b"["])
def test_any_target_is_answered_in_json_and_never_by_a_redirect(
    served: ServedWorld, target: bytes, status: int, host: bytes
) -> None:
    [answer] = exchange(
        served.port, b"GET " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\n" + CLOSE + b"\r\n"
    )
    assert answer.status == status or (answer.status == 421 and host != b"localhost")
    assert "location" not in answer.headers
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert status == 200 or answer.json["message"]


# -- HEAD and OPTIONS


def test_head_tells_what_get_would(served: ServedWorld) -> None:
    agent = served.do(served.world.running())
    served.do(served.world.report(agent, lines=["hello"]))
    logs = f"/jobs/{agent.job_id}/logs"
    served.do(served.world.call_back(agent, {}))
    for path, status in (
        ("/list", 200),
        ("/list?limit=all", 200),
        ("/list?limit=0", 400),
        (f"/status/{agent.job_id}", 200),
        ("/status/999", 404),
        (logs, 200),
        (f"{logs}?follow=1", 200),
        (f"{logs}?follow=2", 400),
        ("/jobs/999/logs", 404),
        ("/totals", 200),
        ("/healthz", 200),
        ("/readyz", 200),
        ("/openapi.json", 200),
        ("/agent/agent.py", 200),
        ("/nowhere", 404),
        ("/schedule", 405),
    ):
        rest = f" {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        [got] = exchange(served.port, b"GET" + rest)
        [told] = exchange(served.port, b"HEAD" + rest, head=True)
        assert (told.status, told.body) == (status, b"")
        each_has_its_own = {
            "date": "",
            "x-request-id": "",
            "transfer-encoding": "chunked",  # of a body, and HEAD has none (RFC 9110, 9.3.2)
        }
        assert told.headers | each_has_its_own == got.headers | each_has_its_own, path
        assert ("content-length" in told.headers) == ("transfer-encoding" not in got.headers)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/list", "GET, HEAD"),
        ("/schedule", "POST"),
        ("/jobs/1", "DELETE"),
        ("/healthz", "GET, HEAD"),
        ("/callback/1", "PUT"),
        ("/agent/claim", "POST"),
        ("/deadletters/1", "DELETE, GET, HEAD"),
    ],
)
@pytest.mark.parametrize("method", ["OPTIONS", "PATCH", "TRACE"])
def test_another_method_is_told_which_are_allowed(
    served: ServedWorld, method: str, path: str, allowed: str
) -> None:
    request = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    [answer] = exchange(served.port, request.encode())
    assert (answer.status, answer.headers["allow"]) == (405, allowed)
    assert json.loads(answer.body) == {"message": f"Method not allowed: use {allowed}"}
