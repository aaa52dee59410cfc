"""Each field of `POST /schedule` with each kind of fault: the message, held by a golden file.

`python -m tests.unit.test_api_request_messages` writes the file again: read the difference, since
users act on these messages.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from services.api.submission.request import BadRequest, Bounds, read_job, read_json

GOLDEN = Path(__file__).parent / "golden" / "request_messages.json"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
BOUNDS = Bounds(default_timezone="UTC", max_lifetime_seconds=3600, keeps_secrets=True)
CLOSED = Bounds(default_timezone="UTC", max_lifetime_seconds=3600)
ARM = Bounds(default_timezone="UTC", max_lifetime_seconds=3600, default_architecture="arm64")

WRONG_TYPES: tuple[Any, ...] = (True, 7, "7", [], {}, [7], {"A": 7}, {"A": None})
FRACTION = read_json(b"1.5")
MINUS_ZERO = read_json(b"[-0]")[0]
HUGE = read_json(b"[1.0, 1e3, 1e400, %d, %s]" % (10**399, b"1" * 5000))
"""Numbers that are no whole ones as written, or larger than any limit."""
NUL = "a\0"

FAULTS: dict[str, tuple[Any, ...]] = {
"docker_image": (
        None, "", "  ", "Alpine", "a" * 5000, NUL, "al pine", FRACTION, "scratch", "a" * 64,
        "a" * 300, "localhost:65536/a", "alpine@sha256:" + "a" * 40, "alpine@md5:" + "a" * 32,
        "2130706433:5000/a", "0177.0.0.1/a",
    ),
    "scheduled_for": (
        None, "", " ", FRACTION, "25:00", "tomorrow", "2025-01-01T00:00:00Z", "+9999999d",
        "2030-02-30T00:00Z", "2030-01-01T24:00Z", "2050-01-01T00:00:00Z", "2026-01-01", NUL,
    ),
    "timezone": ("Mars", "", "\0", "europe/berlin", "localtime", FRACTION),
    "env_vars": (
        {"1A": "x"}, {"": "x"}, {"A\n": "x"}, {"x" * 200 + "-": "x"}, {"A": NUL}, {"A": [1]},
        {"A": {}},
        {"A": "x" * 131_070}, {f"A{number}": "x" * 100_000 for number in range(11)}, [["A", "x"]],
    ),
    "command": (
        ["a", None], [["a"]], [NUL], ["x" * 131_072], ["x" * 100_000] * 11, [""] * 300_000,
        {"a": "b"},
    ),
    "entrypoint": (["a", None], [NUL], ["x" * 131_072], ["a"] * 200_000, {"a": "b"}, "sh", [""]),
    "labels": (
        {"": "x"}, {"a:b": "x"}, {"a" * 257: "x"}, {"a": "x" * 257}, {"a": NUL}, {NUL: "a"},
        {"team": 1},
        {str(number): "" for number in range(51)},
    ),
    "timeout_seconds": (0, -1, 3601, 10**30, FRACTION, *HUGE, "60"),
    "name": ("", "  ", "x" * 201, NUL, FRACTION),
    "resources": (
        {"cpus": 2}, {"vcpus": 0}, {"vcpus": True}, {"vcpus": 1025}, {"vcpus": FRACTION},
        {"memory_mib": "4g"}, {"memory_mib": 10**9}, {"gpus": 65}, {"disk_gib": 65_537},
        {"architecture": "x86"}, {"architecture": 1}, {"architecture": []},
        {"instance_types": "m7g.large"}, {"instance_types": [1]}, {"instance_types": ["m7g"]},
        {"instance_types": ["--x.y"]}, {"instance_types": ["a." + "b" * 63]},
        {"instance_types": ["m7g.large"] * 41},
        {"instance_types": ["m7g.large"], "vcpus": 2}, {"gpus": 1, "architecture": "arm64"},
    ),
    "capacity": ("cheap", "", None, FRACTION),
    "spot_wait_seconds": (-1, 2_592_001, FRACTION, *HUGE),
    "retries": (-1, 101, FRACTION),
    "secret_env": (
        {"1A": "canary"}, {"A": ["canary"]}, {"A": "canary\0"}, {"A": "canary" * 30_000},
        ["canary"],
    ),
    "secrets": (
        {"A B": "/a"}, {"A": "arn:aws:s3:::bucket"}, {"A": "--x y"}, {"A": "/a\0"}, {"A": 1},
        {"A": "/" + "a" * 2048}, {"A": "a/b"}, {"A" * 70_000: "/a"},
        {f"A{number}": "/a" for number in range(101)},
    ),
    "registry_auth": ("NOBODY", {"a": 1}, NUL, ""),
    "user": ("", "a b", "1000:", "2147483648", NUL, FRACTION),
    "working_dir": ("data", "", "/a\0", "/" + "x" * 1024, FRACTION),
    "shm_size_mib": (0, 10**30, FRACTION),
    "init": ("yes", 0, FRACTION),
    "stop_signal": ("", "SIGFOO", 0, 32, "RTMIN+16", FRACTION),
    "stop_grace_seconds": (-1, 601, FRACTION),
    "read_only": ("no", FRACTION),
    "docker_images": ("alpine",),
    "x" * 200: (1,),
}  # fmt: skip

TOGETHER: tuple[dict[str, Any], ...] = (
    {"capacity": "on_demand", "spot_wait_seconds": 5},
    {"env_vars": {"A": "x"}, "secret_env": {"A": "y"}},
    {"env_vars": {"A": "x"}, "secrets": {"A": "/a"}},
    {"secret_env": {"A": "x"}, "secrets": {"A": "/a"}},
    {"command": ["x" * 100_000] * 6, "secret_env": {f"A{n}": "y" * 100_000 for n in range(5)}},
    {"registry_auth": "ecr", "docker_image": "ghcr.io/team/app"},
    {"registry_auth": "A", "secret_env": {"A": "canary"}},
    {"resources": {"architecture": "arm64", "instance_types": ["m5.large", "c5.large"]}},
    {"retries": MINUS_ZERO, "spot_wait_seconds": MINUS_ZERO},
    {"docker_image": "", "scheduled_for": ""},
    {"resources": {"vcpus": 2}, "retries": -1},
    {"resources": {"vcpus": None, "gpus": 65}},
)


def bodies() -> Iterator[tuple[Any, Bounds]]:
    """Each body with a fault, and the settings that it is read with."""
    no_objects: tuple[Any, ...] = (None, 1, "x", [], True)
    for body in no_objects:
        yield body, BOUNDS
    for field, values in FAULTS.items():
        for value in (*values, *WRONG_TYPES):
            yield {"docker_image": "alpine", "scheduled_for": "now", field: value}, BOUNDS
    for fields in TOGETHER:
        yield {"docker_image": "alpine", "scheduled_for": "now", **fields}, BOUNDS
    base = {"docker_image": "alpine", "scheduled_for": "now"}
    yield {**base, "secret_env": {"A": "canary"}}, CLOSED
    yield {**base, "resources": {"gpus": 1}}, ARM


def outcome(body: Any, bounds: Bounds) -> str:
    """Return the message that refuses *body*; "accepted" if nothing does."""
    try:
        read_job(body, NOW, bounds)
    except BadRequest as error:
        return str(error)
    return "accepted"


def short(body: Any) -> str:
    """Return the part of a body that differs from the others, shortened."""
    if isinstance(body, dict):
        body = {key: each for key, each in body.items() if each not in ("alpine", "now")} or body
    text = repr(body)
    return text if len(text) <= 120 else f"{text[:80]}… ({len(text)} characters)"


def found() -> dict[str, str]:
    """Return the outcome of each body, by its text."""
    return {short(body): outcome(body, bounds) for body, bounds in bodies()}


def test_each_message_is_the_golden_one() -> None:
    assert found() == json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize("field", FAULTS)
def test_each_field_has_a_fault_that_names_it(field: str) -> None:
    for value in FAULTS[field]:
        body = {"docker_image": "alpine", "scheduled_for": "now", field: value}
        message = outcome(body, BOUNDS)
        assert message == "accepted" or field[:50] in message or field == "secret_env"
        assert "canary" not in message


if __name__ == "__main__":
    written = json.dumps(found(), indent=2, ensure_ascii=False)
    GOLDEN.write_text(written + "\n", encoding="utf-8")
