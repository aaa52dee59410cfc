"""Every fact that travels on the broker, and nothing else.

An event is named in the past tense and says what happened, never what to do. The class name is the
routing key. The set only ever grows by optional fields: a reader ignores fields it does not know,
and a golden JSON of each event (tests/contract/golden) holds the wire form still.

Moments are aware datetimes in UTC, durations end in ``_seconds``, money in ``_usd``.
"""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

Cause = Literal[
    "done",  # a container of the attempt exited 0
    "failed",  # the container exited otherwise, or the agent could not run it
    "timed_out",  # the job's own time limit passed
    "interrupted",  # the Spot market took the instance back
    "pull_failed",  # the image could not be had
    "no_capacity",  # nobody had an instance for it within the time that it would wait
    "lost",  # nobody heard from the agent any more
    "cancelled",  # somebody asked for it
    "refused",  # the launcher will not launch it
    "superseded",  # launched in advance, and the attempt before it finished the job after all
]

Timestamp = Annotated[datetime, Meta(tz=True)]
"""With its offset from UTC: one without is unreadable."""

TerminalStatus = Literal["DONE", "FAILED", "CANCELLED"]

Market = Literal["spot", "on-demand"]

Capacity = Literal["spot", "spot_then_on_demand", "on_demand"]

Architecture = Literal["x86_64", "arm64"]


class Event(Struct, frozen=True, kw_only=True):
    """What all events have in common: being frozen, keyword-only, and read leniently."""


class Resources(Struct, frozen=True, kw_only=True):
    """What an instance must have at least; None and empty mean the deployment's default."""

    vcpus: int | None = None
    memory_mib: int | None = None
    gpus: int | None = None
    architecture: Architecture | None = None
    disk_gib: int | None = None
    instance_types: tuple[str, ...] = ()


class Requirements(Struct, frozen=True, kw_only=True):
    """What an attempt needs of its instance; the scheduler and the events carry it unread.

    `spot_wait_seconds` is how long Spot is waited for: `spot_then_on_demand` buys on demand then
    (None: after the setting), `spot` gives up (None: never). `labels` is deprecated: empty, and not
    read where an earlier release has published it, since a job's labels stay with the API.
    """

    max_lifetime_seconds: int
    labels: dict[str, str] = {}
    resources: Resources = Resources()
    capacity: Capacity = "spot"
    spot_wait_seconds: int | None = None


class JobScheduled(Event, frozen=True, kw_only=True):
    """Attempt *attempt* of a job is to start at *due_at* (the first time, or again)."""

    job_id: int
    attempt: int
    due_at: Timestamp
    requirements: Requirements


class JobCancelled(Event, frozen=True, kw_only=True):
    """Nobody wants this job any more; *attempt* was its current attempt."""

    job_id: int
    attempt: int


class InstanceRequested(Event, frozen=True, kw_only=True):
    """The attempt is due and needs an instance."""

    job_id: int
    attempt: int
    due_at: Timestamp
    requirements: Requirements


class LaunchDelayed(Event, frozen=True, kw_only=True):
    """Still waiting for an instance: why (a code and plain words) and when the next try is.

    *reason* is "unknown_outcome" too where the cloud refuses with an error that may pass and has no
    code of its own here: *message* has the cloud's own code and words.
    """

    job_id: int
    attempt: int
    reason: Literal["no_capacity", "quota_reached", "throttled", "unknown_outcome"]
    message: str
    next_try_at: Timestamp


class LaunchRefused(Event, frozen=True, kw_only=True):
    """It will never launch, and why, in the cloud's own words."""

    job_id: int
    attempt: int
    message: str
    reason: Literal["rejected", "no_capacity"] = "rejected"


class InstanceLaunched(Event, frozen=True, kw_only=True):
    """An instance exists for the attempt. *launch_sequence* counts them, from 1.

    A price is null where it is not known, and never 0 for that.
    """

    job_id: int
    attempt: int
    launch_token: str
    instance_id: str
    instance_type: str
    zone: str
    market: Market
    hourly_price_usd: float | None
    launched_at: Timestamp
    dies_by: Timestamp
    launch_sequence: int
    spot_instance_request_id: str | None = None
    on_demand_hourly_price_usd: float | None = None


class InstanceInterrupted(Event, frozen=True, kw_only=True):
    """The cloud has said that it takes the instance back soon, or (a rebalance) that it may."""

    instance_id: str
    job_id: int
    attempt: int
    kind: Literal["interruption", "rebalance"]
    noticed_at: Timestamp


class LaunchesReported(Event, frozen=True, kw_only=True):
    """A watermark: each launch asked for before *before* has been told of.

    *launch_sequence* is that of the last `InstanceLaunched` by then, 0 where there was none. Events
    arrive in any order, so the moment alone proves nothing: a reader trusts it only when it has
    itself heard each launch up to that number.
    """

    before: Timestamp
    launch_sequence: int


class JobStarted(Event, frozen=True, kw_only=True):
    """The attempt's container runs."""

    job_id: int
    attempt: int
    started_at: Timestamp
    runtime: Literal["docker", "simulated"]


class AttemptEnded(Event, frozen=True, kw_only=True):
    """The attempt needs its instance no more; until *terminate_after* the agent may tidy up."""

    job_id: int
    attempt: int
    cause: Cause
    ended_at: Timestamp
    terminate_after: Timestamp


class JobFinished(Event, frozen=True, kw_only=True):
    """The job's last word, with all that a message to a person needs.

    *cause* is why the last attempt ended. The fields after *attempt* are absent in what the release
    before this one told.
    """

    job_id: int
    status: TerminalStatus
    finished_at: Timestamp
    attempt: int
    exit_code: int | None = None
    error_message: str | None = None
    name: str | None = None
    labels: dict[str, str] = {}
    cause: Cause | None = None


class InstanceTerminated(Event, frozen=True, kw_only=True):
    """The cloud confirms that the instance is gone; whose it was is absent where unknown.

    *cost_usd* is null where its price is not known, and never 0 for that.
    """

    instance_id: str
    terminated_at: Timestamp
    cause: str
    spot_interrupted: bool
    billed_seconds: int
    cost_usd: float | None
    job_id: int | None = None
    attempt: int | None = None


ALL: tuple[type[Event], ...] = (
    JobScheduled,
    JobCancelled,
    InstanceRequested,
    LaunchDelayed,
    LaunchRefused,
    InstanceLaunched,
    InstanceInterrupted,
    LaunchesReported,
    JobStarted,
    AttemptEnded,
    JobFinished,
    InstanceTerminated,
)

FOR_ANYONE: frozenset[type[Event]] = frozenset({JobStarted, JobFinished})
"""No service of ours reads these."""

MANDATORY = frozenset(event.__name__ for event in ALL if event not in FOR_ANYONE)
"""The names that must find a reader's queue: without one such an event is not confirmed."""

BY_NAME: dict[str, type[Event]] = {event.__name__: event for event in ALL}
