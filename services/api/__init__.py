"""The API: the HTTP service for users and agents, and the only one that decides a job's status.

It owns jobs, their attempts, their logs and the idempotency keys (schema `api`).
"""

from shared.events import events

NAME = "api"

CONSUMES: tuple[type[events.Event], ...] = (
    events.LaunchDelayed,
    events.LaunchRefused,
    events.InstanceLaunched,
    events.InstanceInterrupted,
    events.InstanceUnconfirmed,
    events.InstanceTerminated,
    events.DeadLettersReported,
    events.DeadLetterRedriveAsked,
    events.DeadLetterDropAsked,
    events.OffersPriced,
    events.QuotasReported,
)

PUBLISHES: tuple[type[events.Event], ...] = (
    events.JobScheduled,
    events.JobCancelled,
    events.JobStarted,
    events.AttemptEnded,
    events.JobFinished,
    events.LaunchesPaused,
    events.LaunchesResumed,
    events.DeadLettersReported,
    events.DeadLetterRedriveAsked,
    events.DeadLetterDropAsked,
)
