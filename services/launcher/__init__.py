"""The launcher: asks the cloud for the instance of each attempt. Owns schema `launcher`."""

from shared.events import events

NAME = "launcher"

CONSUMES: tuple[type[events.Event], ...] = (
    events.InstanceRequested,
    events.JobCancelled,
    events.AttemptEnded,
    events.LaunchesMissed,
    events.LaunchesPaused,
    events.LaunchesResumed,
    events.InstanceTerminated,
    events.DeadLetterRedriveAsked,
    events.DeadLetterDropAsked,
)

PUBLISHES: tuple[type[events.Event], ...] = (
    events.LaunchDelayed,
    events.LaunchRefused,
    events.InstanceLaunched,
    events.LaunchesReported,
    events.DeadLettersReported,
    events.OffersPriced,
    events.QuotasReported,
)
