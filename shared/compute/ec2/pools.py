"""Pools without capacity: they rest for a while, and the next offer goes elsewhere."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from msgspec import Struct

from shared.events.events import Market

UNFIT_SECONDS = 86_400.0
"""The rest of a type that its zone does not offer at all."""

NAMED = 8
"""Pools that a message names; the others are counted."""


class CapacityPool(Struct, frozen=True, order=True):
    """Capacity of one instance type in one zone, on one market."""

    market: Market
    instance_type: str
    zone: str

    def __str__(self) -> str:
        return f"{self.instance_type} in {self.zone}"


class RestingPools:
    """The pools that rest, known to this process alone."""

    def __init__(self, rest_seconds: float) -> None:
        self._seconds = rest_seconds
        self._until: dict[CapacityPool, datetime] = {}

    def rest(self, pool: CapacityPool, now: datetime, *, unfit: bool = False) -> None:
        """Let *pool* rest for a while."""
        seconds = UNFIT_SECONDS if unfit else self._seconds
        self._until[pool] = now + timedelta(seconds=seconds)

    def among(self, pools: Iterable[CapacityPool], now: datetime) -> set[CapacityPool]:
        """Return those of *pools* that rest now."""
        self._until = {pool: until for pool, until in self._until.items() if until > now}
        return {pool for pool in pools if pool in self._until}


def summarize(pools: Iterable[CapacityPool]) -> str:
    """Name *pools*, of which there may be a hundred, in a short text."""
    names = sorted({str(each) for each in pools})
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
