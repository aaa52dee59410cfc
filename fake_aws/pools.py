"""Capacity by pool, and the account's quotas.

A pool is a market, an instance type and a zone. Its size limits the number of its instances; an
instance that ends returns its place.
"""

from collections import Counter
from typing import NamedTuple

from fake_aws.errors import AwsError
from fake_aws.quotas import Quotas
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
        self.quotas = Quotas(settings)

    def set_size(self, pool: Pool, size: int | None) -> None:
        """Set the size of *pool*, in instances; None: no limit."""
        self._sizes[pool] = size

    def room(self, pool: Pool) -> int | None:
        """Return the free capacity of *pool*, in instances; None: no limit."""
        size = self._size(pool)
        return None if size is None else max(0, size - self._used[pool])

    def take(self, pool: Pool, vcpus: int) -> None:
        """Take a place for one instance. Raises AwsError without capacity, or above the quota."""
        self.quotas.take(pool.instance_type, pool.market, vcpus)
        room = self.room(pool)
        if room is not None and room < 1:
            self.quotas.give_back(pool.instance_type, pool.market, vcpus)
            raise _no_capacity(pool)
        self._used[pool] += 1

    def give_back(self, pool: Pool, vcpus: int) -> None:
        """Return the place of an ended instance."""
        self._used[pool] -= 1
        self.quotas.give_back(pool.instance_type, pool.market, vcpus)

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
