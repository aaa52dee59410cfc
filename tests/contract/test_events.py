"""The events on the wire: a golden JSON of each holds the public interface still.

A golden is a message: a batch of one event. golden/<Event>.0.json is the least that a publisher has
ever had to say, the greatest number the whole event as it is today. An event only ever grows by
optional fields: then its next number shows them, and the files before it stay as they are, since
there may be readers and dead letters of then. golden/old/ has the single envelope of the release
before batches, which is read for one release more.
"""

import json
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
import pytest
from cloudevents.core.formats.json import JSONFormat
from msgspec import Struct

from operations.wiring import SERVICES, TOPOLOGY
from shared.events import cloudevents, events
from shared.events.readers import MANDATORY
from tests.support.bus.bus_room import bound_names

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(GOLDEN.glob("*.json"))
OLD = sorted((GOLDEN / "old").glob("*.json"))


def of(name: str) -> list[Path]:
    """Return the files of one event, the oldest first."""
    found = [path for path in FILES if path.name.split(".")[0] == name]
    return sorted(found, key=lambda path: int(path.name.split(".")[1]))


def name_of(path: Path) -> str:
    """Return the event of a golden file."""
    return path.name.split(".")[0]


@pytest.mark.parametrize("path", [*FILES, *OLD], ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_each_golden_is_read_whatever_its_age(path: Path) -> None:
    envelope = cloudevents.decode_one(name_of(path), path.read_bytes())
    assert type(envelope.body) is events.BY_NAME[name_of(path)]


@pytest.mark.parametrize("path", OLD, ids=lambda path: path.stem)
def test_an_old_envelope_says_the_same_as_a_cloud_event(path: Path) -> None:
    raw = json.loads(path.read_bytes())
    envelope = cloudevents.decode_one(name_of(path), path.read_bytes())
    [written] = json.loads(cloudevents.encode([envelope]))
    assert (written["type"], written["id"], written["time"]) == (raw["name"], raw["id"], raw["at"])
    assert written.get("causationid") == raw.get("cause")
    assert envelope.trace == raw["trace"].replace("-", "")
    assert written.get("subject") == (
        str(raw["body"]["job_id"]) if "job_id" in raw["body"] else None
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_public_cloudevents_library_reads_each_golden(path: Path) -> None:
    [element] = json.loads(path.read_bytes())
    read = JSONFormat().read(None, json.dumps(element))
    assert (read.get_specversion(), read.get_type()) == ("1.0", name_of(path))
    assert str(read.get_id()) == element["id"]
    assert read.get_data() == element["data"]
    assert set(read.get_attributes()) == set(element) - {"data"}


@pytest.mark.parametrize("name", events.BY_NAME)
def test_the_newest_golden_is_what_is_written_today(name: str) -> None:
    raw = of(name)[-1].read_bytes()
    written = cloudevents.encode([cloudevents.decode_one(name, raw)])
    assert json.loads(written) == json.loads(raw)
    missing = _not_shown(events.BY_NAME[name], json.loads(raw)[0]["data"])
    assert not missing, f"{name} has grown: add a golden of the next number that shows {missing}"


@pytest.mark.parametrize("name", events.BY_NAME)
def test_the_oldest_golden_says_no_more_than_what_is_required(name: str) -> None:
    [raw] = json.loads(of(name)[0].read_bytes())
    required = {
        field.encode_name
        for field in msgspec.structs.fields(events.BY_NAME[name])
        if field.required
    }
    assert set(raw["data"]) == required


@pytest.mark.parametrize("name", events.BY_NAME)
def test_a_reader_ignores_what_it_does_not_know(name: str) -> None:
    [newest] = json.loads(of(name)[-1].read_bytes())
    grown = newest | {"data": newest["data"] | {"of_next_year": {"a": [1]}}, "also": 1}
    batch = cloudevents.decode(name, json.dumps([newest, grown]).encode())
    assert not batch.unreadable
    as_it_is, as_it_has_grown = batch.envelopes
    assert as_it_has_grown == as_it_is


@pytest.mark.parametrize("name", events.BY_NAME)
def test_another_version_or_name_is_unreadable_and_its_batch_is_read(name: str) -> None:
    [newest] = json.loads(of(name)[-1].read_bytes())
    for changed in ({"specversion": "2.0"}, {"type": f"{name}Again"}):
        batch = cloudevents.decode(name, json.dumps([newest | changed, newest]).encode())
        assert (len(batch.unreadable), len(batch.envelopes)) == (1, 1)


def test_every_event_has_its_goldens_and_every_golden_its_event() -> None:
    assert {path.name.split(".")[0] for path in FILES} == set(events.BY_NAME)
    for name in events.BY_NAME:
        assert [path.name for path in of(name)] == [
            f"{name}.{number}.json" for number in range(len(of(name)))
        ]


def test_every_event_is_listed_once_and_published_by_one_service() -> None:
    declared = {
        kind
        for kind in vars(events).values()
        if isinstance(kind, type) and issubclass(kind, events.Event) and kind is not events.Event
    }
    assert declared == set(events.ALL)
    assert len(events.BY_NAME) == len(events.ALL)
    published = [event for service in SERVICES for event in service.PUBLISHES]
    by_all = [events.DeadLettersReported] * (len(SERVICES) - 1)
    assert len(published) == len(set(published)) + len(by_all)
    consumed = {event for service in SERVICES for event in service.CONSUMES}
    assert consumed <= set(published)


def _not_shown(kind: type[Struct], body: dict[str, Any], at: str = "") -> list[str]:
    """Return the fields of *kind*, and of its parts, that *body* does not show."""
    hints = get_type_hints(kind)
    found = []
    for field in msgspec.structs.fields(kind):
        name = f"{at}{field.encode_name}"
        if field.encode_name not in body or body[field.encode_name] is None:
            found.append(name)
            continue
        shown = body[field.encode_name]
        for inner in (hints[field.name], *get_args(hints[field.name])):
            if isinstance(inner, type) and issubclass(inner, Struct):
                one = shown[0] if isinstance(shown, list) else shown
                found += _not_shown(inner, one, f"{name}.")
    return found


def test_whatever_is_not_for_anyone_has_a_queue_of_ours_and_must_find_it() -> None:
    assert bound_names(TOPOLOGY) == MANDATORY
