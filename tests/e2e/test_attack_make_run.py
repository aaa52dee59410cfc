"""`make run` as a newcomer starts it: called by a web page, and without a token; and its log.

The page's requests are what a browser sends for it: a form or fetch of another origin (Fetch
standard, "CORS-safelisted"), and DNS rebinding, where the page's own name is in `Host`.
"""

import itertools
import json
from collections.abc import Iterator

import pytest

from tests.support.servers.raw_http import RawAnswer, connect, exchange
from tests.support.systems.embedded_system import EmbeddedSystem

JOB = b'{"docker_image": "alpine", "scheduled_for": "+3d", "name": "forged"}'
SECRET = "canary-of-the-owner"

PAGES = {
    "a form of another origin": b"Origin: https://evil.example\r\nContent-Type: text/plain\r\n",
    "a sandboxed frame": b"Origin: null\r\nContent-Type: text/plain\r\n",
    "a fetch of another site": b"Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n",
    "another port of the same site": b"Sec-Fetch-Site: same-site\r\n",
    "another port of localhost": b"Origin: http://localhost:1\r\n",
    "a browser extension": b"Origin: chrome-extension://aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n",
    "a file": b"Origin: file://\r\n",
}
REBOUND = (
    b"evil.example", b"evil.example:%d", b"127.0.0.1.nip.io:%d", b"localhost.evil.example:%d",
    b"evil.example@localhost:%d", b"169.254.169.254", b"0.0.0.0:%d", b"[::ffff:7f00:1].evil:%d",
)  # fmt: skip


@pytest.fixture(scope="module")
def run() -> Iterator[EmbeddedSystem]:
    system = EmbeddedSystem(RUNTIME="simulated")
    try:
        system.start()
        yield system
    finally:
        system.close()


def ask(run: EmbeddedSystem, line: bytes, host: bytes, more: bytes = b"") -> RawAnswer:
    """Send one request of a browser, and return its answer."""
    body = JOB if line.startswith(b"POST /schedule") else b""
    head = b"%s HTTP/1.1\r\nHost: %s\r\n%sContent-Length: %d\r\n\r\n" % (
        line, host, more, len(body)
    )  # fmt: skip
    [answer] = exchange(run.port, head + body, end=True)
    return answer


def test_no_page_that_a_developer_visits_orders_or_reads_anything(run: EmbeddedSystem) -> None:
    job_id = run.schedule("+3d", env_vars={"A": SECRET})
    own = b"localhost:%d" % run.port
    lines = [
        b"POST /schedule", b"DELETE /jobs/%d" % job_id, b"GET /list", b"GET /status/%d" % job_id,
        b"GET /jobs/%d/logs" % job_id, b"POST /jobs/%d/rerun" % job_id, b"GET /openapi.json",
        b"OPTIONS /schedule",
    ]  # fmt: skip
    before = run.jobs()
    statuses = []
    for line, more in itertools.product(lines, PAGES.values()):
        statuses.append(ask(run, line, own, more).status)
        assert statuses[-1] in (403, 405), (line, more)
    rebound = [host.replace(b"%d", b"%d" % run.port) for host in REBOUND]
    for line, host in itertools.product(lines, rebound):
        answer = ask(run, line, host, b"Origin: http://" + host + b"\r\n")
        assert answer.status in (400, 403, 405, 421), (line, host)
        assert SECRET.encode() not in answer.body
        assert "access-control-allow-origin" not in answer.headers
        assert "location" not in answer.headers
        statuses.append(answer.status)
    assert run.jobs() == before
    print(f"{len(statuses)} of {len(statuses)} requests of a page refused")
    # The README's own commands are those of no page.
    assert run.http.post("/schedule", content=JOB).status_code == 201


def test_a_caller_without_a_token_changes_nothing_and_has_no_body_read(
    run: EmbeddedSystem,
) -> None:
    job_id = run.schedule("+3d")
    claim = {"job_id": job_id, "attempt": 1, "instance_id": "i", "token": "ab" * 32}
    bodies: tuple[tuple[str, str, object], ...] = (
        ("POST", "/agent/claim", {**claim, "runtime": "docker"}),
        ("POST", f"/agent/jobs/{job_id}/report", {"phase": "running"}),
        ("PUT", f"/callback/{job_id}", {"exit_code": 0}),
        ("PUT", f"/callback/{job_id}", {"failed": "", "error_message": "x"}),
    )
    refused = 0
    for (method, path, body), token in itertools.product(bodies, (None, "x", "0" * 64)):
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        answer = run.http.request(method, path, json=body, headers=headers)
        assert answer.status_code == 401, answer.text
        # The answer comes before the body: 4 MiB are announced, and none is sent.
        line = f"{method} {path}".encode()
        head = b"".join(b"%s: %s\r\n" % (k.encode(), v.encode()) for k, v in headers.items())
        length = b"Content-Length: 4194304\r\n\r\n"
        with connect(run.port) as talking:
            talking.sendall(line + b" HTTP/1.1\r\nHost: localhost\r\n" + head + length)
            assert talking.recv(65_536)[9:12] in (b"401", b"413"), line
        refused += 2
    job = run.job(job_id)
    assert (job["status"], len(job["attempts"])) == ("SCHEDULED", 1)
    assert (job["attempts"][0]["phase"], job["attempts"][0]["instance_id"]) == ("scheduled", None)
    print(f"{refused} of {refused} calls without a token refused, half of them before their body")


FORGED = 'x\r\n{"event": "forged", "level": "info"}\n\x1b]0;forged\x07\u2028\x9b2J'


def test_no_text_of_a_request_is_a_line_of_the_log(run: EmbeddedSystem) -> None:
    """Also not the command of a terminal. Each line of the log is one JSON document of ours."""
    job = {"docker_image": "alpine", "scheduled_for": "+3d"}
    for field, value in {
        "docker_image": FORGED, "name": FORGED, "command": [FORGED], "labels": {"a": FORGED},
        "env_vars": {FORGED: "a"}, "timezone": FORGED, FORGED: 1,
    }.items():  # fmt: skip
        run.http.post("/schedule", json=job | {field: value})
    failing = run.schedule(env_vars={"SIMULATE_EXIT_CODE": "1"}, name=FORGED[:1], command=[FORGED])
    run.follow(failing)
    for text in ("%0d%0a%7b%22event%22:%22forged%22%7d", "%1b%5d0;forged%07"):
        run.http.get(f"/status/{text}")
        run.http.get(f"/list?cursor={text}&{text}=1")
    lines = run.log.read_text(errors="surrogateescape").split("\n")
    entries = [json.loads(line) for line in lines if line]
    assert len(entries) > 5
    assert [each for each in entries if each.get("event") == "forged"] == []
    assert not any(character in "".join(lines) for character in "\r\x1b\x07\x9b\u2028")
    print(f"{len(entries)} of {len(entries)} lines of the log are entries of ours")
