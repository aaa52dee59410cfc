"""The envelope: what is written is read again, and what cannot be read says why."""

import uuid
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from shared import wire
from shared.events import JobCancelled, JobFinished
from shared.wire import Undecodable

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
EVENT = JobCancelled(job_id=7, attempt=2)


def sealed(**changed: object) -> bytes:
    """A readable envelope's JSON, with some fields changed (None: left out)."""
    whole: dict[str, object] = {
        "id": "3f2b7c9e-8a55-4d0e-9a53-3b1f3d3c0a11",
        "name": "JobCancelled",
        "at": "2026-01-02T03:04:05Z",
        "trace": "t",
        "body": {"job_id": 7, "attempt": 2},
    } | changed
    return msgspec.json.encode({key: value for key, value in whole.items() if value is not None})


def test_what_is_written_is_read_again() -> None:
    envelope = wire.wrap(EVENT, at=AT, trace="t", cause=wire.new_id())
    assert wire.decode(wire.encode(envelope)) == envelope


def test_a_moment_keeps_its_microseconds_and_is_told_in_utc() -> None:
    envelope = wire.wrap(EVENT, at=AT, trace="t")
    assert b'"at":"2026-01-02T03:04:05.678901Z"' in wire.encode(envelope)
    elsewhere = AT.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert wire.decode(sealed(at=elsewhere)).at == AT


def test_an_envelope_bears_the_name_of_its_event_and_an_id_of_its_own() -> None:
    first, second = (wire.wrap(EVENT, at=AT, trace="t") for _ in range(2))
    assert first.name == "JobCancelled"
    assert first.id != second.id
    uuid.UUID(first.id)


def test_unknown_fields_are_ignored_in_the_envelope_and_in_the_body() -> None:
    body = {"job_id": 7, "attempt": 2, "colour": "red"}
    assert wire.decode(sealed(body=body, weather={"wind": [1, 2]})).body == EVENT


def test_optional_fields_may_be_absent() -> None:
    body = {"job_id": 7, "status": "DONE", "finished_at": "2026-01-02T03:04:05Z", "attempt": 1}
    read = wire.decode(sealed(name="JobFinished", body=body))
    assert read.body == JobFinished(
        job_id=7, status="DONE", finished_at=AT.replace(microsecond=0), attempt=1
    )
    assert (read.cause, read.version) == (None, 1)


def test_an_id_is_read_in_one_spelling() -> None:
    spelled = "3F2B7C9E8A554D0E9A533B1F3D3C0A11"
    assert wire.decode(sealed(id=spelled)).id == "3f2b7c9e-8a55-4d0e-9a53-3b1f3d3c0a11"


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "not an event envelope"),
        (b"\xff\xfe", "not an event envelope"),
        (b"[]", "not an event envelope"),
        (b"null", "not an event envelope"),
        (sealed(id="no uuid"), "not an event envelope"),
        (sealed(id=None), "missing required field `id`"),
        (sealed(body=None), "missing required field `body`"),
        (sealed(at="yesterday"), "not an event envelope"),
        (sealed(at="2026-01-02T03:04:05"), "not an event envelope"),
        (sealed(name="JobEaten"), "no event is named 'JobEaten'"),
        (sealed(name="Event"), "no event is named 'Event'"),
        (sealed(version=2), "has version 2, known is 1"),
        (sealed(version="1"), "not an event envelope"),
        (sealed(body={"job_id": 7}), "JobCancelled: .*missing required field `attempt`"),
        (sealed(body={"job_id": "7", "attempt": 1}), "JobCancelled: Expected `int`"),
        (b'{"body":' + b"[" * 100_000, "not an event envelope"),
        (
            sealed().replace(b"{", b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b",", 1),
            "not an event envelope",
        ),
    ],
)
def test_what_cannot_be_read_says_why(raw: bytes, why: str) -> None:
    with pytest.raises(Undecodable, match=why):
        wire.decode(raw)
