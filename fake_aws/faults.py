"""Faults, on command or by chance: throttling, 5xx, an answer lost before or after its effect.

A fault names the actions that it strikes (`*` is a wildcard), how often, and with what chance; of
several, the first one strikes. Each action draws its chances from a series of its own, seeded by
the cloud's seed: the fault of its nth call does not depend on the calls of other actions.
"""

import fnmatch
import random
from typing import Literal

import msgspec

Kind = Literal["error", "lost_before", "lost_after", "error_after", "delay"]


class Fault(msgspec.Struct, kw_only=True):
    """A fault.

    "error": the call is refused with *code* and *status*, and has no effect. "error_after": the
    same answer, after the effect. "lost_before" and "lost_after": the connection is cut before or
    after the effect, and the caller cannot know which. "delay": it takes *seconds* longer.
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


class Faults:
    """The faults that are armed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._series: dict[str, random.Random] = {}
        self.armed: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Arm *fault*."""
        self.armed.append(fault)
        return fault

    def clear(self) -> None:
        """Disarm every fault."""
        self.armed.clear()

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
