"""The launcher: which capacity runs this attempt? It owns launches (schema `launcher`)."""

from shared.events import events

NAME = "launcher"

CONSUMES: tuple[type[events.Event], ...] = (
    events.InstanceRequested,
    events.JobCancelled,
    events.AttemptEnded,
)

PUBLISHES: tuple[type[events.Event], ...] = (
    events.LaunchDelayed,
    events.LaunchRefused,
    events.InstanceLaunched,
    events.LaunchesReported,
)
