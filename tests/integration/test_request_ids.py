"""Every answer has the id of its request, and each log line of the request's work has it too."""

import re

import pytest
import structlog

from shared.log import name_request
from shared.runtime.http_protocol import HEAD_BYTES
from tests.support.api.api_world import World
from tests.support.api.served_world import ServedWorld
from tests.support.servers.raw_http import RawAnswer, exchange

HOST = b"Host: localhost\r\n"
CLOSE = HOST + b"Connection: close\r\n\r\n"
MADE = re.compile("[0-9a-f]{16}")
JOB = b'{"docker_image": "alpine", "scheduled_for": "now"}'

REQUESTS = {
    "health": (b"GET /healthz HTTP/1.1\r\n" + CLOSE, 200),
    "readiness": (b"GET /readyz HTTP/1.1\r\n" + CLOSE, 200),
    "a list": (b"GET /list HTTP/1.1\r\n" + CLOSE, 200),
    "a streamed list": (b"GET /list?limit=all HTTP/1.1\r\n" + CLOSE, 200),
    "the description": (b"GET /openapi.json HTTP/1.1\r\n" + CLOSE, 200),
    "HTTP/1.0": (b"GET /healthz HTTP/1.0\r\n\r\n", 200),
    "no such route": (b"GET /nothing HTTP/1.1\r\n" + CLOSE, 404),
    "no such job": (b"GET /status/99999999 HTTP/1.1\r\n" + CLOSE, 404),
    "another method": (b"PUT /list HTTP/1.1\r\n" + CLOSE, 405),
    "a bad body": (b"POST /schedule HTTP/1.1\r\nContent-Length: 1\r\n" + CLOSE + b"{", 400),
    "a bad parameter": (b"GET /list?limit=x HTTP/1.1\r\n" + CLOSE, 400),
    "an agent without a token": (b"POST /agent/claim HTTP/1.1\r\n" + CLOSE, 401),
    "two hosts": (b"GET /list HTTP/1.1\r\n" + HOST + CLOSE, 400),
    "a foreign host": (b"GET /list HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n", 421),
    "no HTTP": (b"\x16\x03\x01\r\n\r\n", 400),
    "another version": (b"GET / HTTP/3.0\r\n" + CLOSE, 400),
    "a large head": (b"GET / HTTP/1.1\r\nX: " + b"x" * (HEAD_BYTES + 70_000), 431),
    "a broken chunk": (
        b"POST /schedule HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        400,
    ),
}

UNSAFE = {
    "empty": b"",
    "long": b"x" * 65,
    "a space": b"a b",
    "quotes": b'a"b',
    "colours": b"\x1b[31mred",
    "markup": b"<script>",
    "other letters": "é".encode(),
    "a template": b"${jndi:ldap://x}",
    "a path": b"../../etc/passwd",
    "a dot first": b".hidden",
}


def id_of(answer: RawAnswer) -> str:
    """Return the answer's id, of which it has one."""
    return answer.headers["x-request-id"]


@pytest.mark.parametrize(("request_", "status"), REQUESTS.values(), ids=REQUESTS.keys())
def test_every_answer_has_an_id(served: ServedWorld, request_: bytes, status: int) -> None:
    [first] = exchange(served.port, request_, end=b"limit=all" not in request_)
    [second] = exchange(served.port, request_, end=b"limit=all" not in request_)
    assert first.status == second.status == status
    assert MADE.fullmatch(id_of(first))
    assert MADE.fullmatch(id_of(second))
    assert id_of(first) != id_of(second)


def test_a_stream_has_an_id(served: ServedWorld) -> None:
    agent = served.do(served.world.running())
    served.do(served.world.call_back(agent, {}))
    path = f"GET /jobs/{agent.job_id}/logs?follow=1 HTTP/1.1\r\n".encode()
    [answer] = exchange(served.port, path + CLOSE)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert MADE.fullmatch(id_of(answer))


def test_requests_of_one_connection_have_ids_of_their_own(served: ServedWorld) -> None:
    line = b"GET /healthz HTTP/1.1\r\n" + HOST
    requests = [line + b"X-Request-Id: mine-%d\r\n\r\n" % each for each in range(20)]
    answers = exchange(served.port, b"".join(requests) + line + b"Connection: close\r\n\r\n")
    assert [id_of(each) for each in answers[:-1]] == [f"mine-{each}" for each in range(20)]
    assert MADE.fullmatch(id_of(answers[-1]))


@pytest.mark.parametrize("name", [b"X-Request-Id", b"x-request-id", b"X-REQUEST-ID"])
def test_a_clients_own_id_is_kept(served: ServedWorld, name: bytes) -> None:
    for own in (b"a", b"x" * 64, b"2b7c6f4e-95c7-4b29-a2c5-0a3bb1b7d3e2", b"Root_1.2"):
        header = name + b": " + own + b"\r\n"
        for line in (b"GET /healthz HTTP/1.1\r\n", b"GET /nothing HTTP/1.1\r\n"):
            [answer] = exchange(served.port, line + header + CLOSE)
            assert id_of(answer) == own.decode()
        broken = b"POST /schedule HTTP/1.1\r\n" + header + HOST
        broken += b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n"
        [refused] = exchange(served.port, broken)
        assert (refused.status, id_of(refused)) == (400, own.decode())


def test_an_unsafe_id_is_replaced(served: ServedWorld) -> None:
    replaced = 0
    for own in UNSAFE.values():
        header = b"X-Request-Id: " + own + b"\r\n"
        [answer] = exchange(served.port, b"GET /nothing HTTP/1.1\r\n" + header + CLOSE, end=True)
        replaced += MADE.fullmatch(id_of(answer)) is not None
    twice = b"X-Request-Id: a\r\nX-Request-Id: b\r\n"
    [answer] = exchange(served.port, b"GET /healthz HTTP/1.1\r\n" + twice + CLOSE)
    replaced += MADE.fullmatch(id_of(answer)) is not None
    print(f"{replaced} of {len(UNSAFE) + 1} unsafe ids were replaced")
    assert replaced == len(UNSAFE) + 1


def with_id(own: str, line: str, body: bytes = b"", *more: str) -> bytes:
    """Return a request with an id of its own."""
    fields = (line + " HTTP/1.1", f"X-Request-Id: {own}", f"Content-Length: {len(body)}", *more)
    return "\r\n".join((*fields, "")).encode() + CLOSE + body


def test_the_log_lines_of_a_request_have_its_id_also_of_groups(served: ServedWorld) -> None:
    port = served.port
    with structlog.testing.capture_logs(processors=[name_request]) as entries:
        accepted = [
            exchange(port, with_id(f"post-{each}", "POST /schedule", JOB))[0].json["id"]
            for each in range(3)
        ]
        key = "Idempotency-Key: once"
        [once] = exchange(port, with_id("post-once", "POST /schedule", JOB, key))
        exchange(port, with_id("post-twice", "POST /schedule", JOB, key))
        exchange(port, with_id("cancel-1", f"DELETE /jobs/{accepted[0]}"))
    found = [each for each in entries if each["event"] == "job accepted"]
    requests = {
        job: request
        for each in found
        for job, request in zip(each["jobs"], each["request_ids"], strict=True)
    }
    assert requests == {
        **{job: f"post-{at}" for at, job in enumerate(accepted)},
        once.json["id"]: "post-once",
    }
    cancelled = [each for each in entries if each["event"] == "job cancelled"]
    print(f"{len(requests)} accepted jobs and {len(cancelled)} cancelled one have their ids")
    ids = [(each["jobs"], each["request_id"]) for each in cancelled]
    assert ids == [([accepted[0]], "cancel-1")]


def test_the_log_lines_of_an_agents_call_have_its_id(served: ServedWorld) -> None:
    agent = served.do(served.world.running())
    path = f"PUT /callback/{agent.job_id}"
    token = f"Authorization: Bearer {agent.token}"
    body = b'{"status": "DONE", "exit_code": 0}'
    with structlog.testing.capture_logs(processors=[name_request]) as entries:
        [answer] = exchange(served.port, with_id("last-call", path, body, token))
    assert answer.status == 200, answer.body
    [line] = [each for each in entries if each["event"] == "agent called back"]
    assert line["request_id"] == "last-call"


async def test_the_log_line_of_an_unexpected_error_has_the_answers_id(world: World) -> None:
    from tests.integration.test_api_server import client, served  # noqa: PLC0415 - its servers

    job_id = (await world.post())["id"]
    async with world.ports.db.connection() as conn:
        await conn.execute("UPDATE attempts SET runtime = 'podman'")
    with structlog.testing.capture_logs(processors=[name_request]) as entries:
        async with served(world) as port, client(port) as http:
            answer = await http.get(f"/status/{job_id}")
    assert answer.status_code == 500
    [line] = [each for each in entries if each["event"] == "request failed"]
    assert line["request_id"] == answer.headers["X-Request-Id"]
