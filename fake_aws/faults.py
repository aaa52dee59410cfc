"""Faults, on command or by chance: throttled, 5xx, an answer lost before or after its effect.

A fault names the actions that it strikes (`*` is a wildcard), how often, and with what chance. The
first that strikes is the one. Each action draws its chances from a series of its own, made of the
cloud's seed: what its nth call meets does not depend on which other calls came between.
"""

import fnmatch
import random
from typing import Literal

import msgspec

Kind = Literal["error", "lost_before", "lost_after", "error_after", "delay"]


class Fault(msgspec.Struct, kw_only=True):
    """What goes wrong.

    "error": the call is refused with *code* and *status*, and has no effect. "error_after": it is
    answered so, and has had its effect. "lost_before" and "lost_after": the connection is cut, and
    the caller cannot know which of both it was. "delay": it takes *seconds* longer.
    """

    action: str = "*"
    kind: Kind = "error"
    code: str = "InternalError"
    message: str = "An internal error has occurred"
    status: int = 500
    seconds: float = 0.0
    times: int | None = 1
    """None: until it is taken away."""
    chance: float = 1.0
    struck: int = 0


class Faults:
    """The faults that are armed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._series: dict[str, random.Random] = {}
        self.armed: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """From now on."""
        self.armed.append(fault)
        return fault

    def clear(self) -> None:
        """All is well again."""
        self.armed.clear()

    def strike(self, action: str) -> Fault | None:
        """What goes wrong with this call."""
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
