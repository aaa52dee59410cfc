"""Each field that agents send with each kind of fault: the message, held by a golden file.

`python -m tests.unit.test_api_agent_messages` writes the file again: read the difference.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.api.agents import requests
from services.api.submission.request import BadRequest

GOLDEN = Path(__file__).parent / "golden" / "agent_messages.json"
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**53, 10**30, 1.5, "", "1", "a\0", [], [7], {}),
    *({"a": 7}, "x" * 300),
)
READERS: dict[str, Callable[[bytes], Any]] = {
    "claim": requests.read_claim,
    "role claim": requests.read_role_claim,
    "report": requests.read_report,
    "callback": requests.read_callback,
}
TOKEN = "0123456789abcdef" * 4
LINE = {"at": "2026-01-01T00:00:00Z", "stream": "stdout", "text": "hello"}
BY_TOKEN = {
    "job_id": 1,
    "attempt": 2,
    "instance_id": "i-1",
    "token": TOKEN,
    "runtime": "docker",
    "interrupted": False,
}
BY_ROLE = {
    "identity": {"headers": {"host": "sts"}, "body": "Action"},
    "token": TOKEN,
    "runtime": "docker",
    "interrupted": False,
}
LOGS = {"seq": 1, "lines": [LINE], "left_out": {"bytes": 7, "lines": 1}}
REPORT = {"phase": "running", "rebalance": False, "logs": LOGS}
INTERRUPTED = {"schedule": "", "stopped": True, "exit_code": 143}
FAILED = {
    "failed": "",
    "error_message": "no",
    "exit_code": 3,
    "stopped": True,
    "timed_out": False,
    "pull_failed": False,
    "for_good": False,
}
DONE = {"exit_code": 0, "error_message": None}
WHOLE: tuple[tuple[str, dict[str, Any]], ...] = (
    *(("claim", BY_TOKEN), ("role claim", BY_ROLE), ("report", REPORT)),
    *(("callback", INTERRUPTED), ("callback", FAILED), ("callback", DONE)),
)
"""Each kind of body with all of its fields."""

SPECIAL: tuple[tuple[str, str, Any], ...] = (
    ("role claim", "identity.headers", {"Host": "sts"}),
    ("role claim", "identity.headers", {f"h{number}": "" for number in range(21)}),
    ("claim", "token", TOKEN.upper()),
    ("claim", "token", TOKEN + "\n"),
    ("report", "rebalance", True),
    ("report", "phase", "booting"),
    ("report", "logs.lines", [LINE] * 10_001),
    ("report", "logs.lines.at", "yesterday"),
    ("report", "logs.lines.at", "2026-01-01\0" + "00:00:00Z"),
    ("report", "logs.lines.stream", "stdin"),
    ("report", "logs.left_out.bytes", 2**53 - 1),
    ("callback", "exit_code", 3),
)


def paths(value: Any, before: str = "") -> Iterator[str]:
    """The path of each field in *value*, outer ones first; an array stands for its one item."""
    if isinstance(value, list):
        value = value[0]
    if isinstance(value, dict) and before != "identity.headers.":
        for name, each in value.items():
            yield before + name
            yield from paths(each, f"{before}{name}.")


ABSENT = object()


def changed(body: Any, path: str, value: Any) -> Any:
    """*body* with *value* at *path*; `ABSENT`: without the field."""
    if isinstance(body, list):
        return [changed(body[0], path, value)]
    name, _, rest = path.partition(".")
    if rest:
        return {**body, name: changed(body[name], rest, value)}
    return {key: each for key, each in {**body, name: value}.items() if each is not ABSENT}


def faults() -> Iterator[tuple[str, str, Any]]:
    """Each kind of body, its fields and a name for the fault, and the body with it."""
    no_objects: tuple[Any, ...] = (None, [], "x", 1, True)
    for kind in READERS:
        for no_object in no_objects:
            yield kind, repr(no_object), no_object
    for kind, body in WHOLE:
        name = f"{kind}: {next(iter(body))}…"
        for path in paths(body):
            yield kind, f"{name} without {path}", changed(body, path, ABSENT)
            for value in VALUES:
                yield kind, f"{name} {path}={short(value)}", changed(body, path, value)
        for of, path, value in SPECIAL:
            if of == kind and path.partition(".")[0] in body:
                yield kind, f"{name} {path}={short(value)}", changed(body, path, value)
    yield "callback", "both", {**INTERRUPTED, **FAILED}
    yield "report", "an unknown field", {**REPORT, "mood": "good"}


NO_JSON = [b"", b"{", b"\xff", b"[" * 100_000, b'{"a": 1}{}', b'{"a": "\xff"}']


@pytest.mark.parametrize("raw", NO_JSON)
@pytest.mark.parametrize("kind", READERS)
def test_a_body_that_is_not_json_is_refused(kind: str, raw: bytes) -> None:
    with pytest.raises(BadRequest, match=r"^the body is (not JSON: |nested too deeply)"):
        READERS[kind](raw)


def short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:40]}… ({len(text)} characters)"


def outcome(kind: str, body: Any) -> str:
    """The message that refuses *body*; "accepted" where nothing does."""
    try:
        READERS[kind](json.dumps(body).encode())
    except BadRequest as error:
        return str(error)
    return "accepted"


def found() -> dict[str, str]:
    """The outcome of each body, by its kind and fault."""
    return {f"{kind}, {fault}": outcome(kind, body) for kind, fault, body in faults()}


def test_each_message_is_the_golden_one() -> None:
    assert found() == json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("kind", "body"), WHOLE, ids=lambda each: next(iter(each)))
def test_a_body_with_all_of_its_fields_is_taken(kind: str, body: Any) -> None:
    assert outcome(kind, body if kind != "report" else {**body, "rebalance": None}) == "accepted"


if __name__ == "__main__":
    written = json.dumps(found(), indent=2, ensure_ascii=False)
    GOLDEN.write_text(written + "\n", encoding="utf-8")
