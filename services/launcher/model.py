"""Launches and batches as values, and the states of a launch.

A launch is `asked` from before the call until a definite answer, in a batch that is one call. In
between, the batch can only be repeated with the same token, plan and requests, even after its
launches were cancelled: instances may exist.
"""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

from msgspec import Struct

from shared.compute.avoided import Avoided
from shared.compute.port import LaunchRequest, Plan
from shared.events.events import Event
from shared.events.requirements import Requirements
from shared.states import Transitions

State = Literal["wanted", "asked", "launched", "refused", "cancelled"]
Reason = Literal["no_capacity", "quota_reached", "throttled", "unknown_outcome"]

TRANSITIONS: Transitions = {
    # Refused or cancelled before the cloud was asked, or because no plan can be made.
    "wanted": frozenset({"asked", "refused", "cancelled"}),
    # Wanted again after a definite refusal: nothing was launched, and the next offer comes later.
    "asked": frozenset({"wanted", "launched", "refused", "cancelled"}),
    "launched": frozenset(),
    "refused": frozenset(),
    "cancelled": frozenset(),
}
"""`docs/states.md` draws them."""


class Launch(Struct, frozen=True, kw_only=True):
    """A launch that is not settled, as its row has it. `sql/` describes its columns.

    `params` is the request without its bootstrap token, which is never stored. `report` is the body
    of the event that settled it, InstanceLaunched or LaunchRefused.
    """

    job_id: int
    attempt: int
    state: State
    unwanted: bool
    requirements: Requirements
    trace: str
    offer: int
    wanted_at: datetime
    due_at: datetime | None
    launch_token: str | None = None
    params: LaunchRequest | None = None
    asked_at: datetime | None = None
    batch_token: str | None = None
    batch_place: int | None = None
    reason: Reason | None = None
    tries: int = 0
    delay_told_at: datetime | None = None
    last_error: str | None = None
    to_change: str | None = None
    held_by: str | None = None
    queued_at: datetime | None = None
    instance_id: str | None = None
    launched_at: datetime | None = None
    launch_sequence: int | None = None
    settled_at: datetime | None = None
    report: dict[str, Any] | None = None

    @property
    def key(self) -> tuple[int, int]:
        """Return job and attempt."""
        return self.job_id, self.attempt


class KnownLaunch(Struct, frozen=True, kw_only=True):
    """A launch in any state, with all that can be published of it again.

    `report` is absent in a launch that an earlier release settled more than a day before the
    upgrade, `trace` in the tombstone of a cancellation.
    """

    job_id: int
    attempt: int
    state: State
    unwanted: bool
    trace: str | None = None
    due_at: datetime | None = None
    reason: Reason | None = None
    last_error: str | None = None
    delay_told_at: datetime | None = None
    to_change: str | None = None
    report: dict[str, Any] | None = None
    launch_token: str | None = None
    params: LaunchRequest | None = None
    instance_id: str | None = None
    launched_at: datetime | None = None
    launch_sequence: int | None = None


class BatchRecord(Struct, frozen=True, kw_only=True):
    """A batch before it is settled: its row, and those of its launches without an answer, in order.

    *repeated*: an earlier call with this token may have had an effect.
    """

    token: str
    plan: Plan
    plan_hash: str
    asked_at: datetime
    repeated: bool = False
    launches: tuple[Launch, ...] = ()


class LaunchClaim(Struct, frozen=True, kw_only=True):
    """The rows that one pass has leased: batches to repeat, launches to plan, or a time to wait.

    *held_back* launches have published that they wait for the end of a pause. *avoid* are pools in
    which instances have not booted lately.
    """

    token: uuid.UUID
    again: Sequence[BatchRecord]
    wanted: Sequence[Launch]
    gathers_until: datetime | None
    now: datetime
    held_back: int
    avoid: tuple[Avoided, ...] = ()


class LeaseGrowth(NamedTuple):
    """The longer call, and lease, of a large batch: by each launch above *launches*."""

    seconds_each: float
    launches: int

    def seconds(self, launches: int) -> float:
        """Return how much longer they last for so many launches."""
        return self.seconds_each * max(0, launches - self.launches)


class Waiting(Struct, frozen=True, kw_only=True):
    """So many launches that wait until *to_change* is changed, with one of their messages."""

    to_change: str
    message: str
    launches: int


class Trouble(Waiting, frozen=True, kw_only=True):
    """A fault of the deployment for which launches wait; it is an alert again at *alert_at*."""

    since: datetime
    alert_at: datetime


class Verdict(Struct, frozen=True, kw_only=True):
    """The new state of a launch after an answer, and the events to publish."""

    launch: Launch
    events: tuple[Event, ...] = ()
