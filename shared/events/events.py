"""The events: every fact that is published on the broker.

The class name is the routing key. Events only gain optional fields: a reader ignores fields it does
not know, and a golden JSON of each event (tests/contract/golden) fixes its wire form. Times are
aware and in UTC, durations end in ``_seconds``, money in ``_usd``.
"""

import uuid
from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from shared.events.causes import Cause, TerminalStatus
from shared.events.costs import CostLines, OtherPrices
from shared.events.letters import ReportedLetter
from shared.events.offers import OfferedType, OfferTerms
from shared.events.quotas import KeyUse, Limits, Use
from shared.events.requirements import Requirements

Timestamp = Annotated[datetime, Meta(tz=True)]
"""A time with its offset from UTC; one without it is unreadable."""

Market = Literal["spot", "on-demand"]


class Event(Struct, frozen=True, kw_only=True):
    """Base of all events: frozen, keyword-only, read leniently."""


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
    code of its own here (*message* has it), and while launches are paused (in *pause_sequence*);
    "quota_reached" for a quota of the cloud or of the deployment. *to_change* is what an operator
    must change, null if nothing. Of several the one with the latest *delayed_at* holds.
    """

    job_id: int
    attempt: int
    reason: Literal["no_capacity", "quota_reached", "throttled", "unknown_outcome"]
    message: str
    next_try_at: Timestamp
    pause_sequence: int | None = None
    to_change: str | None = None
    delayed_at: Timestamp | None = None


class LaunchRefused(Event, frozen=True, kw_only=True):
    """The launch is refused for good; *message* is the cloud's own."""

    job_id: int
    attempt: int
    message: str
    reason: Literal["rejected", "no_capacity"] = "rejected"


class InstanceLaunched(Event, frozen=True, kw_only=True):
    """An instance exists for the attempt. *launch_sequence* numbers the instances, from 1.

    An unknown price is null, never 0. *other_prices*: of its address and its volume.
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
    other_prices: OtherPrices | None = None


class InstanceInterrupted(Event, frozen=True, kw_only=True):
    """The cloud gave notice that it reclaims the instance soon, or (a rebalance) that it may."""

    instance_id: str
    job_id: int
    attempt: int
    kind: Literal["interruption", "rebalance"]
    noticed_at: Timestamp


class InstanceUnconfirmed(Event, frozen=True, kw_only=True):
    """The instance is missing in the cloud; it is taken for terminated at *assumed_at*."""

    instance_id: str
    job_id: int
    attempt: int
    missing_since: Timestamp
    assumed_at: Timestamp


class LaunchesReported(Event, frozen=True, kw_only=True):
    """A watermark: each launch asked for before *before* is published.

    *launch_sequence* is the last by then, 0 if there was none. It is trusted once each launch up to
    that number is received.
    """

    before: Timestamp
    launch_sequence: int


class LaunchesMissed(Event, frozen=True, kw_only=True):
    """The reaper has not received the launches with these numbers, the last included.

    A `LaunchesReported` counts them. The launcher publishes what it knows of them again.
    """

    first_launch_sequence: int
    last_launch_sequence: int


class LaunchesPaused(Event, frozen=True, kw_only=True):
    """*failures* boots in a row have failed: nothing is launched before *until*.

    From then on one launch at a time is tried, for *trial_seconds* at most. Of these events and
    `LaunchesResumed` the highest *sequence* holds. *to_change*: what an operator must change.
    """

    sequence: int
    until: Timestamp
    message: str
    failures: int
    trial_seconds: int
    to_change: str | None = None


class LaunchesResumed(Event, frozen=True, kw_only=True):
    """An instance has booted after a pause: launches go on. See `LaunchesPaused`."""

    sequence: int


class OffersPriced(Event, frozen=True, kw_only=True):
    """The instance types that can be launched, and their prices at *priced_at*.

    As *parts* events of one *version*, numbered from 1: the latest version with all parts holds.
    """

    version: str
    part: int
    parts: int
    priced_at: Timestamp
    terms: OfferTerms
    types: tuple[OfferedType, ...]


class JobStarted(Event, frozen=True, kw_only=True):
    """The attempt's container runs."""

    job_id: int
    attempt: int
    started_at: Timestamp
    runtime: Literal["docker", "simulated"]
    project: str | None = None
    created_by: str | None = None


class AttemptEnded(Event, frozen=True, kw_only=True):
    """The attempt has ended; its instance ends at *terminate_after*, after the agent's clean-up.

    *boot_failed*: no agent on its instance has claimed it. *account_fault*: for a fault of the
    account or of a setting, so other instance types and zones have it too.
    """

    job_id: int
    attempt: int
    cause: Cause
    ended_at: Timestamp
    terminate_after: Timestamp
    boot_failed: bool = False
    account_fault: bool = False


class JobFinished(Event, frozen=True, kw_only=True):
    """The job has reached a terminal status; with all that a notification to a user needs.

    *cause* is why the last attempt ended. *cost_usd* is the cost so far: of terminated instances
    what they cost, of the others their time until now at their price. Null if no instance or a
    price is unknown; `/status` has the cost once all are terminated.
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
    project: str | None = None
    created_by: str | None = None


class InstanceTerminated(Event, frozen=True, kw_only=True):
    """The cloud confirms that the instance is terminated; job and attempt are absent if unknown.

    *cost_usd* is the sum of *cost_lines* (without lines, in an earlier release: of the instance
    alone), null if one is unknown. *console_output*: the end of what any process on it printed, if
    it did not boot or ended by itself.
    """

    instance_id: str
    terminated_at: Timestamp
    cause: str
    spot_interrupted: bool
    billed_seconds: int
    cost_usd: float | None
    job_id: int | None = None
    attempt: int | None = None
    cost_lines: CostLines | None = None
    console_output: str | None = None


class QuotasReported(Event, frozen=True, kw_only=True):
    """The quotas and what is used of them: a whole picture, the highest *sequence* holds.

    *used* is that of the deployment. *keys*: the API keys that use most, without those of nothing.
    """

    sequence: int
    reported_at: Timestamp
    limits: Limits
    key_limits: Limits
    used: Use
    keys: tuple[KeyUse, ...]


class DeadLettersReported(Event, frozen=True, kw_only=True):
    """The dead letters of *service*, and the events that it retries: the highest *sequence* holds.

    *letters* are the newest of *total*; letters that are such reports are left out of both.
    """

    service: str
    sequence: int
    reported_at: Timestamp
    total: int
    letters: tuple[ReportedLetter, ...]


class DeadLetterRedriveAsked(Event, frozen=True, kw_only=True):
    """Somebody asked that *service* hands a parked event to its handler again, now.

    *asked_by* is the name of the API key; absent while there is no key.
    """

    service: str
    event_id: uuid.UUID
    asked_at: Timestamp
    asked_by: str | None = None


class DeadLetterDropAsked(Event, frozen=True, kw_only=True):
    """Somebody asked that *service* deletes a parked event for good."""

    service: str
    event_id: uuid.UUID
    asked_at: Timestamp
    asked_by: str | None = None


ALL: tuple[type[Event], ...] = tuple(Event.__subclasses__())  # all of the above, in that order
BY_NAME: dict[str, type[Event]] = {event.__name__: event for event in ALL}
