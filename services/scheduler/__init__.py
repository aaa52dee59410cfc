"""The scheduler: what is due now? It owns timers (schema `scheduler`)."""

from shared.events import events

NAME = "scheduler"

CONSUMES: tuple[type[events.Event], ...] = (events.JobScheduled, events.JobCancelled)

PUBLISHES: tuple[type[events.Event], ...] = (events.InstanceRequested,)
