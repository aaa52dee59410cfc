"""The scheduler: requests an instance when an attempt is due. Owns schema `scheduler`."""

from shared.events import events

NAME = "scheduler"

CONSUMES: tuple[type[events.Event], ...] = (
    events.JobScheduled,
    events.JobCancelled,
    events.DeadLetterRedriveAsked,
    events.DeadLetterDropAsked,
)

PUBLISHES: tuple[type[events.Event], ...] = (
    events.InstanceRequested,
    events.DeadLettersReported,
)
