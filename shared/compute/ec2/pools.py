"""Pools without capacity, and families whose quota is used up.

They rest for a while, and the next offer goes elsewhere.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, TypeVar

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


class Spent(NamedTuple):
    """A quota that rests, and the fewest vCPUs that it had no room for; 0: not known."""

    until: datetime
    vcpus: int


class RestingPools:
    """The pools and quotas that rest, known to this process alone: another replica learns it again.

    A quota holds for a family on a market, whatever the type and the zone.
    """

    def __init__(self, rest_seconds: float) -> None:
        self._seconds = rest_seconds
        self._until: dict[CapacityPool, datetime] = {}
        self._why: dict[CapacityPool, ComputeError] = {}
        self._unfit: set[CapacityPool] = set()
        self._spent: dict[Quota, Spent] = {}

    def rest(
        self,
        pool: CapacityPool,
        now: datetime,
        *,
        unfit: bool = False,
        why: ComputeError | None = None,
    ) -> None:
        """Let *pool* rest for a while."""
        self._until[pool] = now + timedelta(seconds=UNFIT_SECONDS if unfit else self._seconds)
        self._why[pool] = why or NoCapacity("")
        (self._unfit.add if unfit else self._unfit.discard)(pool)

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

    def unfit(self, now: datetime) -> set[CapacityPool]:
        """Return all pools whose zone does not offer the type, by EC2's refusal."""
        self._unfit = self.among(self._unfit, now)
        return self._unfit

    def spend(self, quota: Quota, now: datetime, vcpus: int = 0) -> None:
        """Let the pools of *quota* rest for a while: it has no room for so many *vcpus*.

        The fewest count while it rests. 0: not known.
        """
        known = self._spent.get(quota)
        if known is not None and known.until > now:
            vcpus = min(vcpus or known.vcpus, known.vcpus or vcpus)
        self._spent[quota] = Spent(now + timedelta(seconds=self._seconds), vcpus)

    def within_quotas(
        self, places: Sequence[tuple[T, P]], market: Market, now: datetime
    ) -> list[tuple[T, P]]:
        """Leave out types whose quota rests; if all do, return the smaller types of one of them.

        One that has no room for a type may have room for a smaller one. If there is none, the
        smallest type is asked for again, since an instance that ends frees its vCPUs at once: a
        larger one could be refused in its place, for ever. One quota at a time, that of the longest
        rest so far: a fleet may stop at the first that is used up, and would never reach the
        others.
        """
        of = [quota_of(kind.name, market) for kind, _ in places]
        spent: dict[Quota | None, Spent] = {
            quota: each for quota, each in self._spent.items() if each.until > now
        }
        if not all(each in spent for each in of):
            return [place for place, each in zip(places, of, strict=True) if each not in spent]
        resting = [(place, each, spent[each]) for place, each in zip(places, of, strict=True)]
        left = [each for each in resting if each[0][0].vcpus < each[2].vcpus] or resting
        next_one = min(left, key=lambda each: (each[2].until, str(each[1])), default=None)
        if next_one is None:
            return []
        found = [place for place, quota, _ in left if quota == next_one[1]]
        least = [place for place in found if place[0].vcpus <= next_one[2].vcpus]
        return least or found


def summarize(pools: Iterable[CapacityPool]) -> str:
    """Name *pools*, of which there may be a hundred, in a short text."""
    names = sorted({str(each) for each in pools})
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
