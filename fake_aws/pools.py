"""How much there is: capacity by pool, and the account's quotas.

A pool is a market, an instance type and a zone. It has room for so many instances and no more; an
instance that ends gives its place back.
"""

from collections import Counter
from typing import NamedTuple

from fake_aws.errors import AwsError
from fake_aws.settings import CloudSettings

ANY = "*"


class Pool(NamedTuple):
    """Where an instance is taken from; *market* is "spot" or "on-demand"."""

    market: str
    instance_type: str
    zone: str


class Pools:
    """The capacity of every pool. What is set for `*` holds for all that nothing closer names."""

    def __init__(self, settings: CloudSettings) -> None:
        self._settings = settings
        self._sizes: dict[Pool, int | None] = {}
        self._used: Counter[Pool] = Counter()
        self._vcpus: Counter[str] = Counter()
        self.quotas: dict[str, int | None] = {
            "spot": settings.spot_vcpus,
            "on-demand": settings.on_demand_vcpus,
        }

    def set_size(self, pool: Pool, size: int | None) -> None:
        """From now on *pool* has room for *size* instances (None: any number)."""
        self._sizes[pool] = size

    def room(self, pool: Pool) -> int | None:
        """How many more it has room for; None: any number."""
        size = self._size(pool)
        return None if size is None else max(0, size - self._used[pool])

    def take(self, pool: Pool, vcpus: int) -> None:
        """One instance more. Raises what EC2 says when there is no room, or the quota is met."""
        quota = self.quotas[pool.market]
        if quota is not None and self._vcpus[pool.market] + vcpus > quota:
            raise _over_quota(pool.market, quota)
        room = self.room(pool)
        if room is not None and room < 1:
            raise _no_capacity(pool)
        self._used[pool] += 1
        self._vcpus[pool.market] += vcpus

    def give_back(self, pool: Pool, vcpus: int) -> None:
        """An instance has ended."""
        self._used[pool] -= 1
        self._vcpus[pool.market] -= vcpus

    def _size(self, pool: Pool) -> int | None:
        for key in _from_close_to_far(pool):
            if key in self._sizes:
                return self._sizes[key]
        return self._settings.pool_size


def _from_close_to_far(pool: Pool) -> list[Pool]:
    market, kind, zone = pool
    return [
        Pool(m, t, z)
        for t, z in ((kind, zone), (kind, ANY), (ANY, zone), (ANY, ANY))
        for m in (market, ANY)
    ]


def _over_quota(market: str, quota: int) -> AwsError:
    if market == "spot":
        return AwsError("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded")
    return AwsError(
        "VcpuLimitExceeded",
        "You have requested more vCPU capacity than your current vCPU limit of "
        f"{quota} allows for the instance bucket that the specified instance type belongs to. "
        "Please visit http://aws.amazon.com/contact-us/ec2-request to request an adjustment to "
        "this limit.",
    )


def _no_capacity(pool: Pool) -> AwsError:
    if pool.market == "spot":
        return AwsError(
            "InsufficientInstanceCapacity",
            "There is no Spot capacity available that matches your request.",
            500,
        )
    return AwsError(
        "InsufficientInstanceCapacity",
        f"We currently do not have sufficient {pool.instance_type} capacity in the Availability "
        f"Zone you requested ({pool.zone}). Our system will be working on provisioning additional "
        "capacity.",
        500,
    )
