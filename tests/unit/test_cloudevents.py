"""Batches of CloudEvents: written ones are read again, and an unreadable one gets a reason."""

import os
import time
import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from shared.events import cloudevents
from shared.events.cloudevents import Undecodable
from shared.events.events import InstanceTerminated, JobCancelled, JobFinished
from shared.messaging import store as messaging
from tests.support.rows.messages import SOURCE, TRACE, wrapped

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
EVENT = JobCancelled(job_id=7, attempt=2)
NAME = "JobCancelled"
ID = "3f2b7c9e-8a55-4d0e-9a53-3b1f3d3c0a11"


def element(**changed: object) -> dict[str, object]:
    """Make a readable CloudEvent, with some attributes changed (None: left out)."""
    whole: dict[str, object] = {
        "specversion": "1.0",
        "id": ID,
        "source": SOURCE,
        "type": NAME,
        "time": "2026-01-02T03:04:05Z",
        "traceparent": f"00-{TRACE}-9a533b1f3d3c0a11-01",
        "data": {"job_id": 7, "attempt": 2},
    } | changed
    return {key: value for key, value in whole.items() if value is not None}


def batch(*elements: object) -> bytes:
    return msgspec.json.encode(elements)


def old(**changed: object) -> bytes:
    """Return the single envelope that the last release wrote."""
    whole: dict[str, object] = {
        "id": ID,
        "name": NAME,
        "at": "2026-01-02T03:04:05Z",
        "trace": "0af76519-16cd-43dd-8448-eb211c80319c",
        "body": {"job_id": 7, "attempt": 2},
        "version": 1,
    } | changed
    return msgspec.json.encode({key: value for key, value in whole.items() if value is not None})


def test_what_is_written_is_read_again() -> None:
    cause = wrapped(EVENT)
    envelopes = [
        cloudevents.wrap(EVENT, source=SOURCE, at=AT, trace=TRACE, cause=cause.id) for _ in range(3)
    ]
    assert cloudevents.decode(NAME, cloudevents.encode(envelopes)) == cloudevents.EventBatch(
        envelopes
    )


def test_each_element_is_a_cloud_event() -> None:
    cause = wrapped(EVENT)
    envelope = cloudevents.wrap(EVENT, source=SOURCE, at=AT, trace=TRACE, cause=cause.id)
    [shown] = msgspec.json.decode(cloudevents.encode([envelope]))
    assert shown == {
        "specversion": "1.0",
        "id": str(envelope.id),
        "source": SOURCE,
        "type": NAME,
        "subject": "7",
        "time": "2026-01-02T03:04:05.678901Z",
        "data": {"job_id": 7, "attempt": 2},
        "traceparent": f"00-{TRACE}-{envelope.id.hex[16:]}-01",
        "causationid": str(cause.id),
    }


def test_what_is_not_known_is_left_out() -> None:
    orphan = InstanceTerminated(
        instance_id="i-1", terminated_at=AT, cause="orphan", spot_interrupted=False,
        billed_seconds=1, cost_usd=None,
    )  # fmt: skip
    [shown] = msgspec.json.decode(cloudevents.encode([wrapped(orphan)]))
    assert not shown.keys() & {"subject", "causationid"}


def test_times_are_in_utc_whatever_their_zone_was() -> None:
    elsewhere = AT.astimezone(timezone(timedelta(hours=5, minutes=30))).isoformat()
    [read] = cloudevents.decode(NAME, batch(element(time=elsewhere))).envelopes
    assert read.at == AT


def test_each_event_has_an_id_of_its_own() -> None:
    first, second = wrapped(EVENT), wrapped(EVENT)
    assert first.id != second.id


def test_ids_are_of_version_7_and_go_up_with_time() -> None:
    ids = [cloudevents.new_uuid() for _ in range(1000)]
    assert {(each.version, each.variant) for each in ids} == {(7, uuid.RFC_4122)}
    assert len(set(ids)) == len(ids)
    times = [each.int >> 80 for each in ids]
    assert times == sorted(times)
    assert abs(times[-1] / 1000 - time.time()) < 60


def test_processes_that_part_ways_draw_ids_of_their_own() -> None:
    reads, writes = os.pipe()
    if os.fork() == 0:
        os.write(writes, cloudevents.new_trace().encode())
        os._exit(0)
    os.wait()
    assert os.read(reads, 32).decode() != cloudevents.new_trace()
    os.close(reads)
    os.close(writes)


def test_a_trace_is_the_same_however_a_row_of_an_earlier_release_spells_it() -> None:
    spelled = str(uuid.UUID(TRACE))
    assert wrapped(EVENT, trace=spelled).trace == wrapped(EVENT, trace=TRACE).trace == TRACE
    assert len(cloudevents.new_trace()) == 32


def test_unknown_fields_are_ignored_beside_the_data_and_in_it() -> None:
    data = {"job_id": 7, "attempt": 2, "colour": "red"}
    [read] = cloudevents.decode(NAME, batch(element(data=data, weather={"wind": [1, 2]}))).envelopes
    assert read.body == EVENT


def test_optional_fields_may_be_absent() -> None:
    data = {"job_id": 7, "status": "DONE", "finished_at": "2026-01-02T03:04:05Z", "attempt": 1}
    raw = batch(element(type="JobFinished", data=data))
    [read] = cloudevents.decode("JobFinished", raw).envelopes
    at = AT.replace(microsecond=0)
    assert read.body == JobFinished(job_id=7, status="DONE", finished_at=at, attempt=1)
    assert (read.cause, read.subject) == (None, None)


def test_an_id_is_the_same_in_every_spelling() -> None:
    spelled = "3F2B7C9E8A554D0E9A533B1F3D3C0A11"
    [read] = cloudevents.decode(NAME, batch(element(id=spelled))).envelopes
    assert read.id == uuid.UUID(ID)


WHOLE: dict[str, tuple[str, bytes, str]] = {
    "nothing": (NAME, b"", "not a batch of events"),
    "no UTF-8": (NAME, b"\xff\xfe", "not a batch of events"),
    "no array": (NAME, b"null", "not a batch of events"),
    "nested without end": (NAME, b'[{"data":' + b"[" * 100_000, "not a batch of events"),
    "an unknown name": (
        "JobEaten",
        batch(element(type="JobEaten")),
        "no event is named 'JobEaten'",
    ),
    "no event's name": ("Event", batch(element(type="Event")), "no event is named 'Event'"),
    "an old one of no name": ("JobEaten", old(name="JobEaten"), "no event is named 'JobEaten'"),
    "an old one of another name": ("JobStarted", old(), "its name is 'JobCancelled'"),
    "an old one that does not fit": (NAME, old(body={"job_id": 7}), "missing required field"),
    "an old one of another version": (NAME, old(version=2), "not an event envelope"),
}


@pytest.mark.parametrize("what", WHOLE)
def test_what_cannot_be_read_at_all_says_why(what: str) -> None:
    name, raw, why = WHOLE[what]
    with pytest.raises(Undecodable, match=why):
        cloudevents.decode(name, raw)


PARTS: dict[str, tuple[object, str]] = {
    "no uuid": (element(id="no uuid"), "Invalid UUID"),
    "no id": (element(id=None), "missing required field `id`"),
    "no data": (element(data=None), "missing required field `data`"),
    "no time": (element(time="yesterday"), "Invalid RFC3339"),
    "a time without its offset": (element(time="2026-01-02T03:04:05"), "timezone"),
    "another type": (element(type="JobEaten"), "its type is 'JobEaten'"),
    "another version": (element(specversion="0.3"), "Invalid enum value '0.3'"),
    "no source": (element(source=""), "length >= 1"),
    "no trace": (element(traceparent="t"), "matching regex"),
    "data that lacks a field": (element(data={"job_id": 7}), "missing required field `attempt`"),
    "data of another type": (element(data={"job_id": "7", "attempt": 1}), "Expected `int`"),
    "no object": (7, "Expected `object`"),
}


@pytest.mark.parametrize("what", PARTS)
def test_an_unreadable_element_is_kept_apart_from_its_batch(what: str) -> None:
    bad, why = PARTS[what]
    good = wrapped(EVENT)
    encoded: Any = msgspec.Raw(cloudevents.encode([good])[1:-1])
    read = cloudevents.decode(NAME, batch(encoded, bad, encoded))
    assert read.envelopes == [good, good]
    [unreadable] = read.unreadable
    assert why in unreadable.reason
    assert unreadable.reason.startswith(NAME)
    assert msgspec.json.decode(unreadable.raw) == bad
    known = isinstance(bad, dict) and bad.get("id") == ID
    assert unreadable.event_id == (uuid.UUID(ID) if known else None)


def test_one_is_read_where_one_is_expected() -> None:
    first, second = wrapped(EVENT), wrapped(EVENT)
    assert cloudevents.decode_one(NAME, cloudevents.encode([first])) == first
    for raw in (cloudevents.encode([first, second]), batch(element(id="no uuid"))):
        with pytest.raises(Undecodable, match=NAME):
            cloudevents.decode_one(NAME, raw)


def test_what_the_last_release_left_is_read() -> None:
    cause = "9d6c1f0e-1c07-4c3e-8a39-5d0c3f9b7a10"
    [read] = cloudevents.decode(NAME, old(cause=cause)).envelopes
    assert (read.id, read.body, read.cause) == (uuid.UUID(ID), EVENT, uuid.UUID(cause))
    assert (read.trace, read.subject, read.name) == (TRACE, "7", NAME)
    assert cloudevents.decode_one(NAME, cloudevents.encode([read])) == read, (
        "it can be parked as any other"
    )


def test_a_batch_holds_one_name_and_so_many_events() -> None:
    finished = JobFinished(job_id=7, status="DONE", finished_at=AT, attempt=1)
    envelopes = [wrapped(EVENT if number % 2 else finished) for number in range(1010)]
    messages = messaging.pack(envelopes)
    read = [
        each
        for message in messages
        for each in cloudevents.decode(message.name, message.body).envelopes
    ]
    assert sorted(each.id for each in read) == sorted(each.id for each in envelopes)
    sizes = [len(cloudevents.decode(each.name, each.body).envelopes) for each in messages]
    assert sorted(sizes) == sorted([250, 250, 5] * 2)
    assert len({each.id for each in messages}) == len(messages)


def test_a_batch_is_split_where_its_bytes_are_too_many() -> None:
    long = JobFinished(
        job_id=7, status="FAILED", finished_at=AT, attempt=1,
        error_message="x" * (messaging.PACK_BYTES // 3),
    )  # fmt: skip
    messages = messaging.pack([wrapped(long) for _ in range(5)])
    assert all(len(each.body) <= messaging.PACK_BYTES for each in messages)
    assert sum(len(cloudevents.decode(each.name, each.body).envelopes) for each in messages) == 5
    huge = msgspec.structs.replace(long, error_message="x" * (2 * messaging.PACK_BYTES))
    assert len(messaging.pack([wrapped(huge), wrapped(huge)])) == 2


def test_nothing_is_no_message() -> None:
    assert messaging.pack([]) == []
