"""The reaper: which instances must die, and are they truly dead?

It owns instances (schema `reaper`).
"""

from shared.events import events

NAME = "reaper"

CONSUMES: tuple[type[events.Event], ...] = (
    events.InstanceLaunched,
    events.LaunchesReported,
    events.AttemptEnded,
)

PUBLISHES: tuple[type[events.Event], ...] = (
    events.InstanceInterrupted,
    events.InstanceTerminated,
)
