"""Documents of older and newer APIs are read; the two halves and the versions agree."""

from datetime import UTC, datetime

import pytest

import docker_job
from docker_job import Change, Job, ListedJob, LogLine, Reset
from docker_job.documents import DeadLetters, Plan, Stats
from docker_job.events import change_items, log_items, to_look_at
from docker_job.queries import encode
from docker_job.reading import read
from docker_job.sse import ServerEvent
from shared.version import VERSION


def test_a_job_has_times_and_attempts_and_its_raw_document() -> None:
    raw = {
        "id": 7,
        "docker_image": "a",
        "status": "DONE",
        "created_at": "2026-01-01T10:00:00.5Z",
        "attempts": [{"number": 1, "ended_at": "2026-01-01T10:00:00+00:00", "new": 1}],
        "new_field": {"x": 1},
    }
    job = read(Job, raw)
    assert job.created_at == datetime(2026, 1, 1, 10, 0, 0, 500_000, tzinfo=UTC)
    assert job.attempts[0].ended_at == datetime(2026, 1, 1, 10, tzinfo=UTC)
    assert job.raw["new_field"] == {"x": 1}
    assert job.is_over


def test_fields_that_an_older_api_does_not_send_have_defaults() -> None:
    job = read(ListedJob, {"id": 7, "docker_image": "a", "status": "RUNNING", "labels": None})
    assert (job.status_reason, job.cost_usd, job.attempts, job.labels) == ("", None, 0, {})
    assert not job.is_over


def test_attempts_that_are_only_counted_are_none_in_a_job() -> None:
    job = read(Job, {"id": 7, "docker_image": "a", "status": "RUNNING", "attempts": 3})
    assert (job.attempts, job.raw["attempts"]) == ([], 3)


def test_documents_within_documents_are_read() -> None:
    stats = read(Stats, {"total": {"jobs": 3}, "groups": [{"key": None, "jobs": 3}]})
    assert (stats.total.jobs, stats.groups[0].key) == (3, None)
    assert read(Plan, {"choices": [{"place": 1, "market": "spot"}]}).choices[0].place == 1
    letters = read(DeadLetters, {"as_of": {"api": "2026-01-01T00:00:00Z", "reaper": None}})
    assert letters.as_of == {"api": datetime(2026, 1, 1, tzinfo=UTC), "reaper": None}


def test_of_several_lines_in_an_event_only_the_last_moves_the_place_to_go_on_from() -> None:
    event = ServerEvent("message", '{"text":"a"}\n{"text":"b","stream":"stderr"}', "1.2")
    first, second = log_items(event, "1.1")
    assert isinstance(first, LogLine)
    assert (first.text, first.id, second.id) == ("a", "1.1", "1.2")


def test_changes_and_resets_have_their_position() -> None:
    data = '{"id": 7, "status": "DONE", "at": "2026-01-01T00:00:00Z"}'
    [change] = change_items(ServerEvent("change", data, "9-1"))
    [reset] = change_items(ServerEvent("reset", '{"message": "read the list again"}', "9-2"))
    assert isinstance(change, Change)
    assert isinstance(reset, Reset)
    assert (change.position, change.is_over, reset.position) == ("9-1", True, "9-2")


def test_events_that_this_client_does_not_know_are_nothing() -> None:
    assert list(change_items(ServerEvent("news", "{}", "1"))) == []
    assert list(log_items(ServerEvent("news", "{}", "1"), None)) == []


def test_jobs_are_looked_at_when_the_stream_stands_after_a_reset_and_when_they_end() -> None:
    pending = {7: None, 8: None}
    assert to_look_at(ServerEvent("message", None, "1"), pending) == [7, 8]
    assert to_look_at(ServerEvent("reset", "{}", "1"), pending) == [7, 8]
    assert to_look_at(ServerEvent("change", '{"id":8,"status":"DONE"}', "1"), pending) == [8]
    assert to_look_at(ServerEvent("change", '{"id":8,"status":"RUNNING"}', "1"), pending) == []
    assert to_look_at(ServerEvent("change", '{"id":9,"status":"DONE"}', "1"), pending) == []


def test_parameters_are_written_as_the_api_reads_them() -> None:
    at = datetime(2026, 1, 1, 10, tzinfo=UTC)
    given = {"status": ["DONE", "FAILED"], "label": {"team": "data"}, "since": at, "q": None}
    assert encode({**given, "follow": True, "limit": 5}) == [
        *(("status", "DONE"), ("status", "FAILED"), ("label", "team:data")),
        *(("since", "2026-01-01T10:00:00Z"), ("follow", "1"), ("limit", "5")),
    ]


def test_the_client_has_the_version_of_the_release() -> None:
    assert docker_job.__version__ == VERSION


@pytest.mark.parametrize("name", docker_job.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    assert getattr(docker_job, name).__name__ == name
