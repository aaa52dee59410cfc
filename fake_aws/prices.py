"""Hourly prices. Invented, but plausible: bigger types cost more, and Spot prices change.

On-demand is a rate for each vCPU, GiB and GPU; the Spot price of a pool is a share of it that
differs by zone and changes with time. It is a function of the seed and the time.
"""

import calendar
import hashlib
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from fake_aws.instance import Plan
from fake_aws.moto_side import InstanceType
from fake_aws.settings import CloudSettings

VCPU_USD = 0.0309
GIB_USD = 0.00415
GPU_USD = 0.65
ARM_SHARE = 0.8
PUBLIC_IPV4_USD = 0.0052
GP3_GIB_MONTH_USD = 0.0832
"""Neither is AWS's price in any region: what is not read from here is wrong."""

LOWEST_SHARE, HIGHEST_SHARE = 0.22, 0.58


class OtherCosts(NamedTuple):
    """The costs beside those of instances."""

    public_ipv4_usd: float
    volume_usd: float


class Prices:
    """Prices in US dollars an hour."""

    def __init__(self, settings: CloudSettings) -> None:
        self._seed = settings.seed
        self.spot_product = settings.spot_product
        self.is_listed = True
        """Whether the price list has the region, which it may not have for a new one."""
        self.unlisted_types = settings.unlisted_types
        self._step = timedelta(seconds=settings.price_step_seconds)

    def on_demand(self, kind: InstanceType) -> float:
        """Return the on-demand price, which is the same in every zone and at every time."""
        share = ARM_SHARE if "arm64" in kind.architectures else 1.0
        usd = kind.vcpus * VCPU_USD + kind.memory_mib / 1024 * GIB_USD
        return round(usd * share + kind.gpus * GPU_USD, 4)

    def spot(self, kind: InstanceType, zone: str, at: datetime) -> float:
        """Return the Spot price of a pool at a time."""
        step = self._steps(at)
        level = self._chance(kind.name, zone, -1)
        wave = 0.5 + 0.5 * math.sin(step / 7 + 6.28 * level)
        noise = self._chance(kind.name, zone, step)
        share = LOWEST_SHARE + (HIGHEST_SHARE - LOWEST_SHARE) * (
            0.6 * level + 0.25 * wave + 0.15 * noise
        )
        return round(self.on_demand(kind) * share, 4)

    def now(self, plan: Plan) -> float:
        """Return the current price of an instance of *plan*."""
        if plan.market == "spot":
            return self.spot(plan.kind, plan.subnet.zone, datetime.now(UTC))
        return self.on_demand(plan.kind)

    def changes(
        self, kind: InstanceType, zone: str, since: datetime, until: datetime
    ) -> Iterator[tuple[datetime, float]]:
        """Yield a pool's price changes, newest first; the last one held at *since*."""
        for step in range(self._steps(until), self._steps(since) - 1, -1):
            at = datetime.fromtimestamp(step * self._step.total_seconds(), UTC)
            yield at, self.spot(kind, zone, at)

    def cost(self, kind: InstanceType, zone: str, since: datetime, until: datetime) -> float:
        """Compute the cost of a Spot instance from *since* to *until*."""
        usd, end = 0.0, until
        for at, price in self.changes(kind, zone, since, until):
            begin = max(at, since)
            usd += price * max(0.0, (end - begin).total_seconds()) / 3600
            end = begin
        return usd

    def other(self, since: datetime, seconds: float, *, addresses: int, gib: int) -> "OtherCosts":
        """Compute the cost of addresses and volumes from *since* on.

        A GiB-month is a GiB for all hours of the month: https://aws.amazon.com/ebs/pricing/
        """
        month_seconds = calendar.monthrange(since.year, since.month)[1] * 86_400
        return OtherCosts(
            addresses * PUBLIC_IPV4_USD * seconds / 3600,
            gib * GP3_GIB_MONTH_USD * seconds / month_seconds,
        )

    def _steps(self, at: datetime) -> int:
        return int(at.timestamp() // self._step.total_seconds())

    def _chance(self, name: str, zone: str, step: int) -> float:
        digest = hashlib.sha256(f"{self._seed}:{name}:{zone}:{step}".encode()).digest()
        return int.from_bytes(digest[:4], "big") / 0xFFFFFFFF
