"""Capacity by pool, and the account's quotas.

A pool is a market, an instance type and a zone. Its size limits the number of its instances; an
instance that ends returns its place.
"""

from collections import Counter
from typing import NamedTuple

from fake_aws.errors import AwsError
from fake_aws.settings import CloudSettings

ANY = "*"


class Pool(NamedTuple):
    """A capacity pool; *market* is "spot" or "on-demand"."""

    market: str
    instance_type: str
    zone: str


class Pools:
    """The capacity of every pool. A size for `*` holds where none is set more specifically."""

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
        """Set the size of *pool*, in instances; None: no limit."""
        self._sizes[pool] = size

    def room(self, pool: Pool) -> int | None:
        """Return the free capacity of *pool*, in instances; None: no limit."""
        size = self._size(pool)
        return None if size is None else max(0, size - self._used[pool])

    def take(self, pool: Pool, vcpus: int) -> None:
        """Take a place for one instance. Raises AwsError without capacity, or above the quota."""
        quota = self.quotas[pool.market]
        if quota is not None and self._vcpus[pool.market] + vcpus > quota:
            raise _over_quota(pool.market, quota)
        room = self.room(pool)
        if room is not None and room < 1:
            raise _no_capacity(pool)
        self._used[pool] += 1
        self._vcpus[pool.market] += vcpus

    def give_back(self, pool: Pool, vcpus: int) -> None:
        """Return the place of an ended instance."""
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
