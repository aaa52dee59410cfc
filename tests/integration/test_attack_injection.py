"""Injection through every text that a request has: SQL, shell, header, log and template syntax.

Each text is taken as it is or refused with a 400. Nothing else happens: no row comes, goes or is
shown, no header is added, no statement runs for long, and no program runs.
"""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

import pytest

from tests.support.api.served_world import ServedWorld
from tests.support.servers.raw_http import RawAnswer, exchange

MARK = Path("/tmp/docker-job-injected")

HOSTILE = (
    "'; DROP TABLE api.jobs; --",
    "' OR '1'='1",
    "') OR pg_sleep(30) IS NULL --",
    "1; SELECT pg_sleep(30)",
    "$$; DELETE FROM jobs; $$",
    "%' AND 1=1 AND '%'='",
    "\\'; TRUNCATE jobs; --",
    f"$(touch {MARK})",
    f"`touch {MARK}`",
    f"; touch {MARK} #",
    f"| touch {MARK}",
    f"--entrypoint=touch {MARK}",
    "a\r\nSet-Cookie: injected=1\r\n\r\n<script>",
    "a\nSet-Cookie: injected=1",
    "a\rSet-Cookie: injected=1",
    "a\u560d\u560aSet-Cookie: injected=1",
    "{{7*7}}${7*7}#{7*7}<%= 7*7 %>",
    "{0.__class__.__init__.__globals__}",
    "%(password)s%s%n%x",
    "${jndi:ldap://127.0.0.1/a}",
    "<script>alert(1)</script>",
    "../../../../etc/passwd",
    "\x1b]0;title\x07\x1b[2J",
    '{"event": "forged", "level": "info"}',
    "__proto__",
)
"""Nothing of these is special to a text that stays a text."""

TEXTS: dict[str, Any] = {
    "docker_image": lambda text: text,
    "scheduled_for": lambda text: text,
    "timezone": lambda text: text,
    "name": lambda text: text,
    "labels": lambda text: {"team": text},
    "labels' names": lambda text: {text: "data"},
    "env_vars": lambda text: {"A": text},
    "env_vars' names": lambda text: {text: "a"},
    "secret_env": lambda text: {"A": text},
    "secret_env's names": lambda text: {text: "a"},
    "entrypoint": lambda text: [text],
    "command": lambda text: ["echo", text],
    "user": lambda text: text,
    "working_dir": lambda text: f"/{text}",
    "stop_signal": lambda text: text,
    "secrets": lambda text: {"A": text},
    "registry_auth": lambda text: text,
    "capacity": lambda text: text,
    "resources": lambda text: {"instance_types": [text]},
    "no field": lambda text: text,
}
"""Each field that has a text, and the value that carries it."""

QUERIES = (
    *((b"GET", b"/list", name) for name in (
        b"status", b"label", b"name", b"image", b"q", b"since", b"until", b"by", b"cursor", b"limit"
    )),
    *((b"GET", b"/jobs/1/logs", name) for name in (b"attempt", b"tail", b"since", b"follow")),
    *((b"GET", b"/stats", name) for name in (b"since", b"until", b"by", b"group_by", b"label")),
    *((b"GET", b"/instances", name) for name in (b"limit", b"cursor", b"state")),
    (b"GET", b"/events", b"after"),
    (b"GET", b"/nowhere", b"x"),
)  # fmt: skip
PATHS = (
    b"GET /status/%s", b"GET /jobs/%s/logs", b"DELETE /jobs/%s", b"DELETE /jobs/%s/record",
    b"POST /jobs/%s/rerun", b"GET /agent/builds/%s", b"GET /deadletters/%s", b"GET /%s",
)  # fmt: skip
HEADERS = (
    (b"POST /schedule", b"Idempotency-Key"),
    (b"GET /jobs/1/logs?follow=1", b"Last-Event-ID"),
    (b"GET /events", b"Last-Event-ID"),
    (b"GET /list", b"Authorization"),
    (b"PUT /callback/1", b"Authorization"),
    (b"GET /list", b"X-Request-Id"),
    (b"GET /list", b"User-Agent"),
    (b"GET /list", b"X-Forwarded-For"),
    (b"GET /list", b"Accept"),
)

ANSWERED = {
    "content-type", "content-length", "connection", "cache-control", "x-content-type-options",
    "allow", "date", "server", "vary", "transfer-encoding", "link", "location", "retry-after",
    "www-authenticate", "etag", "x-accel-buffering", "content-disposition", "x-request-id",
    "idempotent-replayed",
}  # fmt: skip
"""The names of all headers that an answer may have."""


def ask(served: ServedWorld, line: bytes, *headers: bytes, body: bytes = b"") -> RawAnswer:
    """Send one request and return its answer, which has no header that was injected."""
    head = [line + b" HTTP/1.1", b"Host: localhost", b"Connection: close", *headers]
    if body or not line.startswith(b"GET"):
        head += [b"Content-Type: application/json", b"Content-Length: %d" % len(body)]
    answers = exchange(served.port, b"\r\n".join(head) + b"\r\n\r\n" + body)
    assert answers, line
    answer = answers[0]
    assert set(answer.headers) <= ANSWERED, answer.headers
    assert "injected" not in " ".join(answer.headers.values())
    assert answer.status < 500, (line, answer.body)
    if answer.status >= 400:
        assert answer.headers["content-type"] == "application/json"
        assert answer.json["message"]
    return answer


def ids(served: ServedWorld) -> list[int]:
    """Return the ids of all jobs."""
    return [job["id"] for job in ask(served, b"GET /list?limit=all").json]


@pytest.mark.parametrize("field", TEXTS)
def test_a_jobs_text_is_kept_as_it_is_or_refused_and_does_nothing(
    served: ServedWorld, field: str
) -> None:
    before = ids(served)
    name = field.partition("'")[0]
    kept = refused = 0
    for text in HOSTILE:
        value = TEXTS[field](text)
        job = {"docker_image": "alpine", "scheduled_for": "+3d", name: value}
        answer = ask(served, b"POST /schedule", body=json.dumps(job).encode())
        if answer.status == 400:
            refused += 1
            continue
        assert answer.status == 201, answer.body
        kept += 1
        shown = ask(served, b"GET /status/%d" % answer.json["id"]).json
        if name not in ("secret_env", "scheduled_for"):
            assert shown[name] == value
    assert len(ids(served)) == len(before) + kept
    assert set(before) <= set(ids(served))
    assert not MARK.exists()
    print(f"{field}: {refused} of {len(HOSTILE)} texts refused, {kept} kept as they are")


def test_no_parameter_or_path_is_a_statement_a_file_or_a_header(served: ServedWorld) -> None:
    victim = served.do(served.world.post(name="victim", labels={"team": "data"}))["id"]
    before, rows = ids(served), served.do(served.world.rows())
    sent = 0
    for text in HOSTILE:
        raw = quote_from_bytes(text.encode()).encode()
        for method, path, name in QUERIES:
            answer = ask(served, method + b" " + path + b"?" + name + b"=" + raw)
            if path == b"/list" and answer.status == 200:
                assert victim not in [job["id"] for job in answer.json], text
            sent += 1
        for line in PATHS:
            answer = ask(served, line % raw.replace(b"/", b"%2F"))
            assert answer.status in (400, 404, 405, 422), (line, text, answer)
            assert b"root:" not in answer.body
            sent += 1
    assert ids(served) == before
    assert served.do(served.world.rows()) == rows
    assert served.do(served.world.status(victim))["status"] == "SCHEDULED"
    assert not MARK.exists()
    print(f"{sent} of {sent} parameters and paths changed and showed nothing")


def test_no_header_is_a_statement_or_another_header(served: ServedWorld) -> None:
    """Line breaks end a header before it is read; a NUL and others are refused by the parser."""
    before, rows = ids(served), served.do(served.world.rows("jobs", "idempotency_keys"))
    sent = 0
    for text in HOSTILE:
        if "\n" in text or "\r" in text:
            continue  # the next test
        for line, name in HEADERS:
            raw = text.encode()
            if line.startswith(b"GET /events"):
                raw += b"x"  # never an id: a stream that begins has no end
            body = b'{"docker_image": "' if line.startswith(b"POST") else b""  # no JSON
            ask(served, line, name + b": " + raw, body=body)
            sent += 1
    assert ids(served) == before
    assert served.do(served.world.rows("jobs", "idempotency_keys")) == rows
    print(f"{sent} of {sent} headers changed nothing")


@pytest.mark.parametrize("broken", [b"\n", b"\r", b"\0", b"\r\n "], ids=repr)
@pytest.mark.parametrize("name", [name for _, name in HEADERS[:4]])
def test_a_header_with_a_line_break_or_nul_is_refused(
    served: ServedWorld, name: bytes, broken: bytes
) -> None:
    before = ids(served)
    body = b'{"docker_image": "alpine", "scheduled_for": "+3d"}'
    answer = exchange(
        served.port,
        b"POST /schedule HTTP/1.1\r\nHost: localhost\r\n"
        + name + b": a" + broken + b"Set-Cookie: injected=1\r\n"
        + b"Content-Length: %d\r\n\r\n" % len(body) + body,
        end=True,
    )  # fmt: skip
    assert [each.status for each in answer] == [400]
    assert b"injected" not in answer[0].body
    assert ids(served) == before


def test_texts_of_an_agent_are_kept_as_they_are_and_do_nothing(served: ServedWorld) -> None:
    shown = 0
    for text in HOSTILE:
        agent = served.do(served.world.running())
        lines: list[str | dict[str, str]] = [text, {"text": text, "stream": "stderr"}]
        assert served.do(served.world.report(agent, lines=lines)).status_code == 200
        failed = {"failed": "", "error_message": text, "exit_code": 1}
        status = served.do(served.world.call_back(agent, failed)).status_code
        assert status == 200
        job = served.do(served.world.status(agent.job_id))
        assert job["status"] == "FAILED"
        answer = ask(served, b"GET /jobs/%d/logs?follow=1" % agent.job_id)
        fields = {line.partition(b":")[0] for line in answer.body.splitlines()}
        assert fields <= {b"", b"id", b"event", b"data", b"retry"}, "an event of SSE is forged"
        shown += 1
    assert not MARK.exists()
    print(f"{shown} of {len(HOSTILE)} texts of an agent shown as they are")
