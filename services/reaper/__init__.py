"""The reaper: terminates instances that must end, until the cloud confirms it.

Owns schema `reaper`.
"""

from shared.events import events

NAME = "reaper"

CONSUMES: tuple[type[events.Event], ...] = (
    events.InstanceLaunched,
    events.LaunchesReported,
    events.AttemptEnded,
    events.DeadLetterRedriveAsked,
    events.DeadLetterDropAsked,
)

PUBLISHES: tuple[type[events.Event], ...] = (
    events.InstanceInterrupted,
    events.InstanceUnconfirmed,
    events.InstanceTerminated,
    events.LaunchesMissed,
    events.DeadLettersReported,
)
