"""An instance as a value, and what may become of it.

    running ─▶ ending ─▶ terminated    the cloud has said so, or has not listed it for long enough
       └───────────────▶ terminated    it ended by itself, or the market took it

`ending` means that we ask for its end until it has come.
"""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from shared.compute.port import Instance
from shared.events.events import Market
from shared.states import Transitions

State = Literal["running", "ending", "terminated"]

TRANSITIONS: Transitions = {
    "running": frozenset({"ending", "terminated"}),
    "ending": frozenset({"terminated"}),
    "terminated": frozenset(),
}


class Watched(Struct, frozen=True, kw_only=True):
    """An instance as its row has it. Its columns are told in `sql/`."""

    instance_id: str
    job_id: int | None
    attempt: int | None
    launch_token: str
    trace: str
    state: State
    market: Market
    hourly_price_usd: float | None
    launched_at: datetime
    dies_by: datetime
    end_cause: str | None = None
    due_at: datetime | None = None
    tries: int = 0
    missing_since: datetime | None = None


class Watermark(Struct, frozen=True, kw_only=True):
    """The launcher's latest, and through which telling we have heard every one."""

    before: datetime | None
    told: int
    heard_through: int


class Terminated(Struct, frozen=True, kw_only=True):
    """The end of an instance, as it is recorded and told."""

    watched: Watched
    cause: str
    terminated_at: datetime
    spot_interrupted: bool
    billed_seconds: int
    cost_usd: float | None


class Recorded(Struct, frozen=True, kw_only=True):
    """An end that is on record now, and how much longer the instance lived than it was needed."""

    instance_id: str
    leaked_seconds: float


class Interruption(Struct, frozen=True, kw_only=True):
    """A notice of an instance that is known to be somebody's."""

    instance_id: str
    kind: Literal["interruption", "rebalance"]
    noticed_at: datetime
    job_id: int
    attempt: int
    trace: str


class UnknownInstance(Struct, frozen=True, kw_only=True):
    """An instance that only the cloud's list shows, and what we know that bears on it."""

    instance: Instance
    first_seen_at: datetime
    attempt_ended: bool


class Findings(Struct, frozen=True, kw_only=True):
    """What one complete list of the cloud says of our rows, and of what has none."""

    gone: tuple[Terminated, ...]
    missing: tuple[str, ...]
    back: tuple[str, ...]
    expired: tuple[str, ...]
    stopped: tuple[str, ...]
    revenants: tuple[str, ...]
    unknown: tuple[Instance, ...]
