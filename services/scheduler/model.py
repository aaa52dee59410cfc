"""A timer as a value, and its states."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from shared.events.requirements import Requirements
from shared.states import Transitions

State = Literal["waiting", "fired", "cancelled"]

TRANSITIONS: Transitions = {
    "waiting": frozenset({"fired", "cancelled"}),
    # Its InstanceRequested is in the outbox.
    "fired": frozenset(),
    # Its job is cancelled, perhaps before the timer was added.
    "cancelled": frozenset(),
}
"""`docs/states.md` draws them."""


class Timer(Struct, frozen=True, kw_only=True):
    """The start time of one attempt. `trace` is that of its JobScheduled."""

    job_id: int
    attempt: int
    due_at: datetime
    requirements: Requirements
    trace: str
