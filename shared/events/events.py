"""The events: every fact that is published on the broker.

An event is named in the past tense and states what happened, never what to do. The class name is
the routing key. Events only gain optional fields: a reader ignores fields it does not know, and a
golden JSON of each event (tests/contract/golden) fixes its wire form.

Times are aware datetimes in UTC, durations end in ``_seconds``, money in ``_usd``.
"""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

Cause = Literal[
    "done",  # a container of the attempt exited 0
    "failed",  # the container exited otherwise, or the agent could not run it
    "timed_out",  # the job's own time limit passed
    "interrupted",  # the Spot market reclaimed the instance
    "pull_failed",  # the image could not be pulled
    "no_capacity",  # no instance was available within its waiting time
    "lost",  # the agent stopped reporting
    "cancelled",  # a user cancelled the job
    "refused",  # the launch was refused for good
    "superseded",  # a replacement, and the attempt before it finished the job
]

Timestamp = Annotated[datetime, Meta(tz=True)]
"""A time with its offset from UTC; one without it is unreadable."""

TerminalStatus = Literal["DONE", "FAILED", "CANCELLED"]

Market = Literal["spot", "on-demand"]

Capacity = Literal["spot", "spot_then_on_demand", "on_demand"]

Architecture = Literal["x86_64", "arm64"]


class Event(Struct, frozen=True, kw_only=True):
    """Base of all events: frozen, keyword-only, read leniently."""


class Resources(Struct, frozen=True, kw_only=True):
    """The minimum that an instance must have; None and empty mean the deployment's default."""

    vcpus: int | None = None
    memory_mib: int | None = None
    gpus: int | None = None
    architecture: Architecture | None = None
    disk_gib: int | None = None
    instance_types: tuple[str, ...] = ()


class Requirements(Struct, frozen=True, kw_only=True):
    """The requirements of an attempt on its instance; scheduler and events pass them on unread.

    `spot_wait_seconds` is how long to wait for Spot: then `spot_then_on_demand` buys on demand
    (None: after the setting's time), `spot` gives up (None: never). `labels` is deprecated: empty,
    and ignored if an earlier release has published it, since a job's labels stay with the API.
    """

    max_lifetime_seconds: int
    labels: dict[str, str] = {}
    resources: Resources = Resources()
    capacity: Capacity = "spot"
    spot_wait_seconds: int | None = None


class JobScheduled(Event, frozen=True, kw_only=True):
    """Attempt *attempt* of a job is to start at *due_at*: the first or a later attempt."""

    job_id: int
    attempt: int
    due_at: Timestamp
    requirements: Requirements


class JobCancelled(Event, frozen=True, kw_only=True):
    """The job is cancelled; *attempt* was its current attempt."""

    job_id: int
    attempt: int


class InstanceRequested(Event, frozen=True, kw_only=True):
    """The attempt is due and needs an instance."""

    job_id: int
    attempt: int
    due_at: Timestamp
    requirements: Requirements


class LaunchDelayed(Event, frozen=True, kw_only=True):
    """The launch is delayed: the reason (a code and a message) and the time of the next try.

    *reason* is "unknown_outcome" also if the cloud refuses with an error that may pass and has no
    code of its own here: *message* has the cloud's own code and text.
    """

    job_id: int
    attempt: int
    reason: Literal["no_capacity", "quota_reached", "throttled", "unknown_outcome"]
    message: str
    next_try_at: Timestamp


class LaunchRefused(Event, frozen=True, kw_only=True):
    """The launch is refused for good; *message* is the cloud's own."""

    job_id: int
    attempt: int
    message: str
    reason: Literal["rejected", "no_capacity"] = "rejected"


class InstanceLaunched(Event, frozen=True, kw_only=True):
    """An instance exists for the attempt. *launch_sequence* numbers the instances, from 1.

    An unknown price is null, never 0.
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
    """The cloud gave notice that it reclaims the instance soon, or (a rebalance) that it may."""

    instance_id: str
    job_id: int
    attempt: int
    kind: Literal["interruption", "rebalance"]
    noticed_at: Timestamp


class LaunchesReported(Event, frozen=True, kw_only=True):
    """A watermark: each launch asked for before *before* is published.

    *launch_sequence* is that of the last `InstanceLaunched` by then, 0 if there was none. Events
    arrive in any order, so the time alone proves nothing: a reader trusts it only once it has
    received each launch up to that number.
    """

    before: Timestamp
    launch_sequence: int


class LaunchesMissed(Event, frozen=True, kw_only=True):
    """The reaper has not received the launches with these numbers, though others it has.

    *first_launch_sequence* to *last_launch_sequence* are all missing, and both are counted in a
    `LaunchesReported` that came minutes ago. The launcher publishes what it knows of them again.
    """

    first_launch_sequence: int
    last_launch_sequence: int


class JobStarted(Event, frozen=True, kw_only=True):
    """The attempt's container runs."""

    job_id: int
    attempt: int
    started_at: Timestamp
    runtime: Literal["docker", "simulated"]


class AttemptEnded(Event, frozen=True, kw_only=True):
    """The attempt has ended; its instance ends at *terminate_after*, after the agent's clean-up."""

    job_id: int
    attempt: int
    cause: Cause
    ended_at: Timestamp
    terminate_after: Timestamp


class JobFinished(Event, frozen=True, kw_only=True):
    """The job has reached a terminal status; with all that a notification to a user needs.

    *cause* is why the last attempt ended. *cost_usd* is the cost so far: of terminated instances
    what they cost, of the others, as that of the last attempt mostly is, their time until now at
    their price. Null if no instance or a price is unknown, never 0 for that; `/status` has the cost
    once all are terminated. The fields after *attempt* are absent in events of earlier releases.
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
    cost_usd: float | None = None


class InstanceTerminated(Event, frozen=True, kw_only=True):
    """The cloud confirms that the instance is terminated; job and attempt are absent if unknown.

    *cost_usd* is null if its price is unknown, never 0 for that.
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
    LaunchesMissed,
    JobStarted,
    AttemptEnded,
    JobFinished,
    InstanceTerminated,
)

FOR_ANYONE: frozenset[type[Event]] = frozenset({JobStarted, JobFinished})
"""Events that no service of ours reads."""

MANDATORY = frozenset(event.__name__ for event in ALL if event not in FOR_ANYONE)
"""The events that must reach a queue: without one their publish is not confirmed."""

BY_NAME: dict[str, type[Event]] = {event.__name__: event for event in ALL}
