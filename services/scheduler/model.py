"""A timer as a value, and what may become of it.

    waiting ─▶ fired       its time has come; the InstanceRequested is in the outbox
       └─────▶ cancelled   nobody wants it any more (or: cancelled before it was heard of)

The two last states are final.
"""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from shared.events.events import Requirements
from shared.states import Transitions

State = Literal["waiting", "fired", "cancelled"]

TRANSITIONS: Transitions = {
    "waiting": frozenset({"fired", "cancelled"}),
    "fired": frozenset(),
    "cancelled": frozenset(),
}


class Timer(Struct, frozen=True, kw_only=True):
    """When one attempt is to start. `trace` is that of its JobScheduled."""

    job_id: int
    attempt: int
    due_at: datetime
    requirements: Requirements
    trace: str
