"""Pools without capacity, and families whose quota is used up.

They rest for a while, and the next offer goes elsewhere.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from msgspec import Struct

from shared.compute.ec2.own_shortage import own_shortage
from shared.compute.ec2.quotas import Quota, quota_of
from shared.compute.port import ComputeError, NoCapacity, Rejected
from shared.events.events import Market
from shared.events.offers import InstanceType

T = TypeVar("T", bound=InstanceType)
P = TypeVar("P")

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
    """The pools and quotas that rest, known to this process alone: another replica learns it again.

    A quota holds for a family on a market, whatever the type and the zone.
    """

    def __init__(self, rest_seconds: float) -> None:
        self._seconds = rest_seconds
        self._until: dict[CapacityPool, datetime] = {}
        self._why: dict[CapacityPool, ComputeError] = {}
        self._spent_until: dict[Quota, datetime] = {}

    def rest(
        self,
        pool: CapacityPool,
        now: datetime,
        *,
        unfit: bool = False,
        why: ComputeError | None = None,
    ) -> None:
        """Let *pool* rest for a while."""
        seconds = UNFIT_SECONDS if unfit else self._seconds
        self._until[pool] = now + timedelta(seconds=seconds)
        self._why[pool] = why or NoCapacity("")

    def among(self, pools: Iterable[CapacityPool], now: datetime) -> set[CapacityPool]:
        """Return those of *pools* that rest now."""
        self._until = {pool: until for pool, until in self._until.items() if until > now}
        return {pool for pool in pools if pool in self._until}

    def shortage(self, pools: Sequence[CapacityPool]) -> NoCapacity:
        """Return the error of an offer all of whose *pools* rest now, those that are unfit too."""
        is_spot = any(each.market == "spot" for each in pools)
        names, after = summarize(pools), f"next try after a rest of {self._seconds:g} s"
        why = [self._why[each] for each in pools if each in self._why]
        short = [each for each in why if not isinstance(each, Rejected)]
        own = own_shortage(short, f"{'on Spot' if is_spot else 'on demand'} for {names}, {after}")
        name = "Spot" if is_spot else "on-demand"
        return own or NoCapacity(f"EC2 has no {name} capacity now for {names}; {after}")

    def spend(self, quota: Quota, now: datetime) -> None:
        """Let all pools of *quota* rest for a while: it is used up."""
        self._spent_until[quota] = now + timedelta(seconds=self._seconds)

    def within_quotas(
        self, places: Sequence[tuple[T, P]], market: Market, now: datetime
    ) -> list[tuple[T, P]]:
        """Leave out types whose quota rests; if all do, return those of the longest rest so far.

        EC2 is then asked again, since an instance that ends frees its vCPUs at once. One quota at
        a time: a fleet may stop at the first that is used up, and would never reach the others.
        """
        of = [quota_of(kind.name, market) for kind, _ in places]
        spent: dict[Quota | None, datetime] = {
            quota: until for quota, until in self._spent_until.items() if until > now
        }
        if not all(each in spent for each in of):
            return [place for place, each in zip(places, of, strict=True) if each not in spent]
        next_one = min(set(of), key=lambda each: (spent[each], str(each)), default=None)
        return [place for place, each in zip(places, of, strict=True) if each == next_one]


def summarize(pools: Iterable[CapacityPool]) -> str:
    """Name *pools*, of which there may be a hundred, in a short text."""
    names = sorted({str(each) for each in pools})
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
