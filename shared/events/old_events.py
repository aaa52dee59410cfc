"""The bodies of the last release's events, as this release reads them.

Its events may still be in an outbox, on the broker, parked or in `.dead`. A missing field has its
default in `events.py`; a field with another name now is renamed here. Delete this file together
with `old_envelope.py`, one release later.
"""

from collections.abc import Mapping
from typing import Any

RENAMED: Mapping[str, Mapping[str, str]] = {
    "InstanceLaunched": {"told": "launch_sequence"},
    "LaunchesReported": {"told": "launch_sequence"},
}
"""Per event: the old name of a field, and the new."""


def upgrade(name: str, data: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of *data*, the body of an event named *name*, with the current names."""
    now = RENAMED.get(name, {})
    return {now.get(field, field): value for field, value in data.items()}
