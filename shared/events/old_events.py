"""The bodies of the last release's events, as this release reads them.

What that release told may still be in an outbox, on the broker, parked or in `.dead`. Whatever is
only missing has a default in `events.py`; what bears another name now is renamed here. To be
deleted with `old_envelope.py`, one release on.
"""

from collections.abc import Mapping
from typing import Any

RENAMED: Mapping[str, Mapping[str, str]] = {
    "InstanceLaunched": {"told": "launch_sequence"},
    "LaunchesReported": {"told": "launch_sequence"},
}
"""By event: the field's name then, and now."""


def upgrade(name: str, data: dict[str, Any]) -> dict[str, Any]:
    """The body *data* of an event named *name*, by today's names; *data* itself stays as it is."""
    now = RENAMED.get(name, {})
    return {now.get(field, field): value for field, value in data.items()}
