"""Instances and their terminations as values, and the states of an instance."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from shared.compute.port import Instance
from shared.events.costs import CostLines, OtherPrices
from shared.events.events import Market
from shared.states import Transitions

State = Literal["running", "ending", "terminated"]

TRANSITIONS: Transitions = {
    # Terminated directly if it ended by itself or the Spot market reclaimed it.
    "running": frozenset({"ending", "terminated"}),
    # Terminate calls are repeated until the cloud reports it, or has answered for longer than it
    # shows terminated instances that there is none (`absence.py`).
    "ending": frozenset({"terminated"}),
    "terminated": frozenset(),
}
"""`docs/states.md` draws them."""


class Watched(Struct, frozen=True, kw_only=True):
    """An instance as its row has it. `sql/` describes its columns.

    *console_unread*: it did not boot, and what it has printed is to be read before it ends.
    """

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
    other_prices: OtherPrices | None = None
    end_cause: str | None = None
    due_at: datetime | None = None
    tries: int = 0
    missing_since: datetime | None = None
    unlisted_seconds: float = 0
    not_found_at: datetime | None = None
    not_found_seconds: float = 0
    console_unread: bool = False


class Watermark(Struct, frozen=True, kw_only=True):
    """The launcher's latest, and the launch sequence through which every launch is received."""

    before: datetime | None
    launch_sequence: int
    received_through: int


class RefusedCall(Struct, frozen=True, kw_only=True):
    """A call of the cloud that a fault of the deployment forbids."""

    call: str
    message: str
    since: datetime


class LaunchGap(Struct, frozen=True, kw_only=True):
    """Launch reports that a watermark counts and that have not come. `sql/` has its columns."""

    first: int
    through: int
    since: datetime
    ask_again_at: datetime | None = None
    alert_at: datetime | None = None


class Terminated(Struct, frozen=True, kw_only=True):
    """The end of an instance, as it is recorded and published."""

    watched: Watched
    cause: str
    terminated_at: datetime
    spot_interrupted: bool
    billed_seconds: int
    cost_usd: float | None
    cost_lines: CostLines | None = None


class Recorded(Struct, frozen=True, kw_only=True):
    """A newly recorded end, and how much longer the instance lived than it was needed."""

    instance_id: str
    leaked_seconds: float
    boot_failed: bool = False


class ConsoleRead(Struct, frozen=True, kw_only=True):
    """A console that is read again after its instance's end; *tries* counts this read too."""

    instance_id: str
    tries: int


class KeptConsole(Struct, frozen=True, kw_only=True):
    """The end of a console of *characters*, or a note, which has none, as it is kept.

    *early*: read while its instance ended by itself. More may follow, and if it is empty, will.
    """

    output: str
    characters: int = 0
    early: bool = False


class Interruption(Struct, frozen=True, kw_only=True):
    """A notice of an instance whose attempt is known."""

    instance_id: str
    kind: Literal["interruption", "rebalance"]
    noticed_at: datetime
    job_id: int
    attempt: int
    trace: str


class UnknownInstance(Struct, frozen=True, kw_only=True):
    """An instance that only the cloud's list shows, and what decides whether it ends."""

    instance: Instance
    first_seen_at: datetime
    attempt_ended: bool


class NotFoundFor(Struct, frozen=True, kw_only=True):
    """An instance that the cloud has answered not to find, for how long in all.

    `assumed_at`: when it is taken for terminated, if that is to be published now.
    """

    watched: Watched
    seconds: float
    assumed_at: datetime | None = None


class Absences(Struct, frozen=True, kw_only=True):
    """The conclusions from the cloud's answers about single instances that no list shows."""

    terminated: tuple[Terminated, ...]
    not_found: tuple[NotFoundFor, ...]
    found: tuple[str, ...]


class Findings(Struct, frozen=True, kw_only=True):
    """The differences between one complete list of the cloud and our rows."""

    terminated: tuple[Terminated, ...]
    missing: tuple[str, ...]
    visible_again: tuple[str, ...]
    expired: tuple[str, ...]
    stopped: tuple[str, ...]
    alive_after_end: tuple[str, ...]
    unknown: tuple[Instance, ...]
