"""The services that read each event: their queues must exist for it.

The broker reports only that *no* queue takes a message, not that one of several is missing. So each
service looks whether the queues exist that its events need (`shared.runtime.readiness`).
"""

from collections.abc import Iterable, Mapping

from shared.events import events
from shared.events.events import Event

EVERY_SERVICE = ("api", "launcher", "reaper", "scheduler")

READERS: Mapping[type[Event], tuple[str, ...]] = {
    events.JobScheduled: ("scheduler",),
    events.JobCancelled: ("scheduler", "launcher"),
    events.InstanceRequested: ("launcher",),
    events.LaunchDelayed: ("api",),
    events.LaunchRefused: ("api",),
    events.InstanceLaunched: ("api", "reaper"),
    events.InstanceInterrupted: ("api",),
    events.InstanceUnconfirmed: ("api",),
    events.LaunchesReported: ("reaper",),
    events.LaunchesMissed: ("launcher",),
    events.LaunchesPaused: ("launcher",),
    events.LaunchesResumed: ("launcher",),
    events.OffersPriced: ("api",),
    events.JobStarted: (),
    events.AttemptEnded: ("reaper", "launcher"),
    events.JobFinished: (),
    events.InstanceTerminated: ("api", "launcher"),
    events.QuotasReported: ("api",),
    events.DeadLettersReported: ("api",),
    events.DeadLetterRedriveAsked: EVERY_SERVICE,
    events.DeadLetterDropAsked: EVERY_SERVICE,
}
"""The services by event; none for events that only outside consumers read."""

MANDATORY = frozenset(event.__name__ for event, readers in READERS.items() if readers)
"""The events that must reach a queue: without one their publish is not confirmed."""


def queues_of(service: str, publishes: Iterable[type[Event]]) -> tuple[str, ...]:
    """Return the queues that *service* needs: its own, and those of its events' readers."""
    return tuple(sorted({service, *(reader for event in publishes for reader in READERS[event])}))
