"""CallerRate limits: how many requests a caller may send, and the error of one that sends more.

The generic cell rate algorithm (ITU-T I.371): all that is stored of a caller is the time at which
its allowance is whole again. A full table drops the entry whose time is the earliest: a caller that
has used its allowance up is forgotten last, so a flood of other names resets no limit.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from services.api.processes.siblings import SharedTable
from shared.settings import PREFIX, Settings

AGENT_TIMES = 4
"""The limit of an agent, in limits of a key: while its container prints without pause, it sends one
full batch of lines after the other."""


class TooMany(Exception):
    """The caller makes more requests than the setting allows; `wait_seconds` until the next one."""

    def __init__(self, wait_seconds: float, limit: str = "") -> None:
        message = f"too many requests: wait {wait_seconds:.1f} s"
        super().__init__(f"{message} ({limit})" if limit else message)
        self.wait_seconds = wait_seconds


@dataclass(frozen=True)
class CallerRate:
    """So many requests *per_second* on average (0: no limit), and *at_once* after a pause."""

    per_second: float
    at_once: float

    def times(self, factor: float) -> "CallerRate":
        """Return the rate of so many callers together."""
        return CallerRate(self.per_second * factor, self.at_once * factor)


def read_rate(settings: Settings, name: str, per_second: float, at_once: float) -> CallerRate:
    """Read the settings `<name>_PER_SECOND` and `<name>_AT_ONCE`. Raises `BadSetting`."""
    return CallerRate(
        settings.number(f"{name}_PER_SECOND", per_second),
        settings.number(f"{name}_AT_ONCE", at_once, least=1),
    )


@dataclass(frozen=True)
class RateLimit:
    """The limit of each caller; *whose* and *setting* name it in the error.

    *seconds* is a monotonic clock that the processes share: no change of the wall clock locks a
    caller out. (`CLOCK_MONOTONIC` is the machine's, see clock_gettime(2).)
    """

    rate: CallerRate
    whose: str
    setting: str
    seconds: Callable[[], float]
    table: SharedTable

    def take(self, caller: str) -> None:
        """Count one request of *caller*. Raises `TooMany`."""
        if self.rate.per_second <= 0:
            return
        now, each = self.seconds(), 1 / self.rate.per_second
        full = self.rate.at_once * each
        # Never later than that of an allowance used up, and stored: a clock set back passes again.
        whole_at = min(max(self.table.read(caller) or now, now), now + full)
        wait = whole_at + each - now - full
        if wait > each * 1e-6:  # else rounding
            self.table.write(caller, whole_at)
            raise TooMany(wait, self._limit())
        self.table.write(caller, whole_at + each)

    def give_back(self, caller: str) -> None:
        """Take back the count of one request of *caller*."""
        whole_at = self.table.read(caller)
        if self.rate.per_second > 0 and whole_at is not None:
            self.table.write(caller, whole_at - 1 / self.rate.per_second)

    def _limit(self) -> str:
        rate = self.rate
        return (
            f"{self.whose} has {rate.per_second:g} a second, {math.floor(rate.at_once):d} at once: "
            f"{PREFIX}{self.setting}_PER_SECOND, {PREFIX}{self.setting}_AT_ONCE"
        )
