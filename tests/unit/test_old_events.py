"""Events of the last release can be read by this one."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shared.events import events
from shared.events.old_events import RENAMED, upgrade

OLD = sorted((Path(__file__).parent.parent / "contract" / "golden" / "old").glob("*.json"))


def has_all(now: Any, then: Any) -> bool:
    """Return whether *now* has all that *then* has."""
    if isinstance(then, dict):
        return all(has_all(now[field], value) for field, value in then.items())
    return bool(now == then)


@pytest.mark.parametrize("path", OLD, ids=lambda path: path.stem)
def test_each_body_of_the_last_release_is_read_with_all_that_it_says(path: Path) -> None:
    name = path.name.split(".")[0]
    body = json.loads(path.read_bytes())["body"]
    event = msgspec.convert(upgrade(name, body), events.BY_NAME[name])
    renamed = {RENAMED.get(name, {}).get(field, field) for field in body}
    assert renamed <= set(event.__struct_fields__)
    assert has_all(json.loads(msgspec.json.encode(event)), upgrade(name, body))


def test_the_field_of_the_last_release_is_the_launch_sequence_now() -> None:
    assert upgrade("LaunchesReported", {"told": 7}) == {"launch_sequence": 7}
    assert upgrade("InstanceLaunched", {"told": 7})["launch_sequence"] == 7


def test_other_events_and_what_is_read_again_stay_as_they_are() -> None:
    body = {"told": 7, "job_id": 1}
    assert upgrade("JobFinished", body) == body
    again = {"launch_sequence": 7, "before": "2026-01-01T00:00:00Z"}
    assert upgrade("LaunchesReported", again) == again
