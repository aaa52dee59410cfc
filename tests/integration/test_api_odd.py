"""Requests that no client of ours makes: each is answered without a server error."""

import json
import socket
from typing import Any

import httpx
import pytest

from services.api.submission import request
from tests.support.api.described import check_now
from tests.support.api.served_world import ServedWorld

DEEP = 10_000  # fits into the smallest bound of a body

ODD_BODIES: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"\x00\xff\xfe",
    "no UTF-8": b'{"docker_image": "\xff"}',
    "half a surrogate": b'{"docker_image": "\\ud800"}',
    "a number of many digits": b'{"job_id": ' + b"9" * 5000 + b', "exit_code": 1e999}',
    "a deep array": b"[" * DEEP + b"]" * DEEP,
    "a deep object": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "a deep field": b'{"env_vars": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "NaN": b'{"docker_image": NaN}',
    "an infinity": b'{"docker_image": [1e400, Infinity]}',
    "a byte order mark": b'\xef\xbb\xbf{"docker_image": "alpine"}',
    "UTF-16": '{"docker_image": "alpine"}'.encode("utf-16"),
    "a trailing comma": b'{"docker_image": "alpine",}',
    "a bare line break": b'{"docker_image": "alpine\n"}',
    "a text": b'"alpine"',
    "null": b"null",
}
WITH_BODY = (
    ("POST", "/schedule"),
    ("POST", "/agent/claim"),
    ("POST", "/agent/jobs/{id}/report"),
    ("PUT", "/callback/{id}"),
)


@pytest.mark.parametrize("odd", ODD_BODIES)
@pytest.mark.parametrize(("method", "path"), WITH_BODY, ids=lambda value: value)
def test_an_odd_body_is_a_400_that_says_what_is_wrong(
    served: ServedWorld, method: str, path: str, odd: str
) -> None:
    agent = served.do(served.world.running())
    answer = httpx.request(
        method,
        served.base_url + path.format(id=agent.job_id),
        content=ODD_BODIES[odd],
        headers=agent.headers if path != "/schedule" else {},
        timeout=10,
    )
    check_now(answer)
    assert answer.status_code == 400, answer.text
    assert answer.json()["message"]


ODD_FIELDS: dict[str, tuple[Any, str]] = {
    "docker_image": ("al\0pine", "docker_image"),
    "scheduled_for": ("2026-01-01\x0000:00", "scheduled_for"),
    "timezone": ("\0", "timezone"),
    "name": ("a\0", "name"),
    "labels": ({"a": "\0"}, "labels"),
    "env_vars": ({"A": "\0"}, "env_vars.A"),
    "entrypoint": (["\0"], "entrypoint"),
    "command": (["\0"], "command"),
    "retries": (10**400, "retries"),
    "timeout_seconds": (1e308, "timeout_seconds"),
    "spot_wait_seconds": (-1, "spot_wait_seconds"),
    "resources": ({"vcpus": 2**70}, "resources.vcpus"),
    "capacity": ({"spot": []}, "capacity"),
    "secret_env": ({"\0": "a"}, "secret_env"),
    "secrets": ({"A": "/a\0"}, "secrets.A"),
    "registry_auth": ("\0", "registry_auth"),
    "user": ("a\0", "user"),
    "working_dir": ("/a\0", "working_dir"),
    "shm_size_mib": (2**70, "shm_size_mib"),
    "init": (1e308, "init"),
    "stop_signal": ("\0", "stop_signal"),
    "stop_grace_seconds": (-(10**400), "stop_grace_seconds"),
    "read_only": ("\0", "read_only"),
    "\0": (1, "unknown field"),
}


@pytest.mark.parametrize("field", [*request.FIELDS, "\0"])
def test_an_odd_field_is_named(served: ServedWorld, field: str) -> None:
    value, named = ODD_FIELDS[field]
    body = {"docker_image": "alpine", "scheduled_for": "now"} | {field: value}
    answer = httpx.post(f"{served.base_url}/schedule", json=body, timeout=10)
    check_now(answer)
    assert answer.status_code == 400
    assert named in answer.json()["message"]


@pytest.mark.parametrize("field", ["at", "text", "stream"])
def test_a_log_line_may_hold_any_character(served: ServedWorld, field: str) -> None:
    agent = served.do(served.world.running())
    for character in ("\0", "\ud800", "\u2028", "\x1b", "\U0010ffff"):
        line = {"at": "2026-01-01T00:00:00Z", "stream": "stdout", "text": "hello"}
        line[field] = line[field][:10] + character + line[field][11:]
        answer = httpx.post(
            f"{served.base_url}/agent/jobs/{agent.job_id}/report",
            content=json.dumps({"logs": {"seq": 1, "lines": [line]}}),
            headers=agent.headers,
            timeout=10,
        )
        check_now(answer)
        assert answer.status_code in (200, 400), answer.text


ODD_HEADERS: dict[str, dict[str, bytes]] = {
    "a length that is none": {"Content-Length": b"many"},
    "a length below zero": {"Content-Length": b"-1"},
    "a length beyond all": {"Content-Length": b"9" * 40},
    "two lengths": {"Content-Length": b"1, 2"},
    "a key of Latin letters": {"Idempotency-Key": b"\xe4\xf6\xfc"},
    "a key with a tab": {"Idempotency-Key": b"a\tb"},
    "an empty key": {"Idempotency-Key": b""},
    "a bearer of no letters": {"Authorization": b"Bearer \xff\xfe"},
    "no bearer": {"Authorization": b"Bearer"},
    "another scheme": {"Authorization": b"Basic dXNlcjpwYXNz"},
    "another content type": {"Content-Type": b"application/xml"},
    "a content type that is none": {"Content-Type": b"\xff/;;;"},
    "a form": {"Content-Type": b"multipart/form-data; boundary="},
    "another host": {"Host": b"\xff"},
    "an upgrade": {"Connection": b"Upgrade", "Upgrade": b"websocket"},
    "an unknown encoding": {"Content-Encoding": b"br"},
    "an unknown transfer": {"Transfer-Encoding": b"gzip"},
    "an expectation": {"Expect": b"the worst"},
}
TARGETS = (
    b"/status/1",
    b"/status/%00",
    b"/status/%ff",
    b"/status/\xff",
    b"/status/" + b"9" * 5000,
    b"/list?label=%00:a",
    b"/list?label=%ff:%ff",
    b"/list?status=%00",
    b"/list?limit=%ff",
    b"/list?cursor=" + b"9" * 30,
    b"/jobs/1/logs?follow=%00",
    b"//",
    b"/../../etc/passwd",
    b"http://[",
    b"*",
)


@pytest.mark.parametrize("odd", ODD_HEADERS)
def test_an_odd_header_makes_no_fault(served: ServedWorld, odd: str) -> None:
    body = b'{"docker_image": "alpine", "scheduled_for": "now"}'
    headers = {"Host": b"localhost", "Content-Length": b"%d" % len(body)} | ODD_HEADERS[odd]
    status, answer = spoken(served, b"POST /schedule HTTP/1.1", headers, body)
    assert status in (201, 400, 401, 408, 413) or (status, odd) == (421, "another host"), answer
    assert status == 201 or answer["message"]


@pytest.mark.parametrize("target", TARGETS)
def test_an_odd_target_makes_no_fault(served: ServedWorld, target: bytes) -> None:
    status, answer = spoken(served, b"GET " + target + b" HTTP/1.1", {"Host": b"localhost"})
    assert status in (200, 400, 404), answer
    assert status == 200 or answer["message"]


def spoken(
    served: ServedWorld, line: bytes, headers: dict[str, bytes], body: bytes = b""
) -> tuple[int, Any]:
    """Return status and JSON of the answer to these bytes."""
    head = b"".join(b"%s: %s\r\n" % (name.encode(), each) for name, each in headers.items())
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as speaking:
        speaking.sendall(line + b"\r\n" + head + b"Connection: close\r\n\r\n" + body)
        answer = b"".join(iter(lambda: speaking.recv(65536), b""))
    head, _, text = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(text)
