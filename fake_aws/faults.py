"""Faults, on command or by chance: throttling, 5xx, an answer lost before or after its effect.

A fault names the actions that it strikes (`*` is a wildcard), how often, and with what chance; of
several, the first one strikes. Each action draws its chances from a series of its own, seeded by
the cloud's seed: the fault of its nth call does not depend on the calls of other actions.

A pool's fault refuses launches in it: an error in the answer of a fleet, whose call succeeds, and
the answer of RunInstances. EC2 refuses one pool for
many reasons besides capacity, such as a permission, the account or a removed template.
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateFleetError.html
"""

import fnmatch
import random
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

Kind = Literal["error", "lost_before", "lost_after", "error_after", "delay", "delay_after"]


class Fault(msgspec.Struct, kw_only=True):
    """A fault.

    "error": the call is refused with *code* and *status*, and has no effect. "error_after": the
    same answer, after the effect. "lost_before" and "lost_after": the connection is cut before or
    after the effect, and the caller cannot know which. "delay": it takes *seconds* longer.
    "delay_after": the effect comes at once, the answer *seconds* later. CreateFleet shows its
    instances only then too, and until then answers another call with its token without instances
    and errors.
    """

    action: str = "*"
    kind: Kind = "error"
    code: str = "InternalError"
    message: str = "An internal error has occurred"
    status: int = 500
    seconds: float = 0.0
    times: int | None = 1
    """None: until it is disarmed."""
    chance: float = 1.0
    struck: int = 0


class PoolFault(msgspec.Struct, kw_only=True):
    """A pool's refusal of each launch; `*` is a wildcard."""

    code: str
    message: str = "The request cannot be fulfilled."
    market: str = "*"
    instance_type: str = "*"
    zone: str = "*"
    times: int | None = None
    """None: until it is disarmed."""
    struck: int = 0


class Faults:
    """The faults that are armed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._series: dict[str, random.Random] = {}
        self.armed: list[Fault] = []
        self.pools: list[PoolFault] = []
        self._under_way: dict[str, datetime] = {}

    def begin(self, token: str, seconds: float) -> None:
        """Record that the call with this client token is under way for *seconds*."""
        self._under_way[token] = datetime.now(UTC) + timedelta(seconds=seconds)

    def under_way_until(self, token: str) -> datetime | None:
        """Return until when the call with this client token is under way; None: it is over."""
        until = self._under_way.get(token)
        return until if until is not None and until > datetime.now(UTC) else None

    def add(self, fault: Fault) -> Fault:
        """Arm *fault*."""
        self.armed.append(fault)
        return fault

    def clear(self) -> None:
        """Disarm every fault."""
        self.armed.clear()
        self.pools.clear()

    def strike(self, action: str) -> Fault | None:
        """Return the fault of this call, or None."""
        chances = self._series.setdefault(action, random.Random(f"{self._seed} {action}"))
        for fault in self.armed:
            if not fnmatch.fnmatchcase(action, fault.action):
                continue
            if fault.times is not None and fault.struck >= fault.times:
                continue
            if chances.random() < fault.chance:
                fault.struck += 1
                return fault
        return None

    def strike_pool(self, market: str, instance_type: str, zone: str) -> PoolFault | None:
        """Return the fault of a launch in this pool, or None."""
        for fault in self.pools:
            place = zip(
                (market, instance_type, zone),
                (fault.market, fault.instance_type, fault.zone),
                strict=True,
            )
            fits = all(fnmatch.fnmatchcase(given, pattern) for given, pattern in place)
            if fits and (fault.times is None or fault.struck < fault.times):
                fault.struck += 1
                return fault
        return None
