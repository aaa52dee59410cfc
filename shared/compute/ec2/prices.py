"""Prices an hour: Spot by the price history of the zone, the others by AWS's lists."""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from shared.clock import Clock
from shared.compute.ec2.client import Aws
from shared.compute.ec2.list_prices import NO_PRICE, WAIT_SECONDS, Charges, ListPrices, Resting
from shared.compute.ec2.price_list import is_local, is_priced_in_usd
from shared.compute.ec2.shapes import DescribedInstance
from shared.compute.port import Instance, Plan
from shared.events.costs import OtherPrices

FRESH_SECONDS = 300.0
"""Spot prices change a few times a day
(https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/how-spot-instances-work.html)."""

HOLDS = timedelta(hours=6)
"""Of a Spot price that cannot be read again: later it is not known any more."""

SPOT = "Spot"

VPC_PRODUCT = "Linux/UNIX (Amazon VPC)"
PRODUCTS = ("Linux/UNIX", VPC_PRODUCT)
"""Accounts of the time of EC2-Classic have the second for instances in a VPC, others the first.
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_SpotPrice.html; Karpenter asks for both.
"""


class Change(Struct, frozen=True, order=True):
    """The price *usd* of an hour, from *at* on."""

    at: datetime
    usd: float


def mean_price(changes: Sequence[Change], since: datetime, until: datetime) -> float | None:
    """Return the mean of a price that *changes* (the oldest first), from *since* to *until*.

    The price before the first known change is taken to be that one's.
    """
    if not changes:
        return None
    if until <= since:
        before = [each.usd for each in changes if each.at <= since]
        return before[-1] if before else changes[0].usd
    total = 0.0
    ends = [*(each.at for each in changes[1:]), until]
    for index, (change, end) in enumerate(zip(changes, ends, strict=True)):
        begin = since if index == 0 else max(change.at, since)
        total += change.usd * max(0.0, (min(end, until) - begin).total_seconds())
    return round(total / (until - since).total_seconds(), 6)


def read_history(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], list[Change]]:
    """Read the changes of each type in each zone, the oldest first.

    Prices of other products than ours, which an emulator may show too, and of 0 are left out.
    """
    found: dict[tuple[str, str], dict[str, list[Change]]] = {}
    for row in rows:
        product = row.get("ProductDescription") or PRODUCTS[0]
        change = Change(row["Timestamp"].astimezone(UTC), float(row["SpotPrice"]))
        if product in PRODUCTS and change.usd > 0:
            products = found.setdefault((row["InstanceType"], row["AvailabilityZone"]), {})
            products.setdefault(product, []).append(change)
    return {
        pool: sorted(products.get(VPC_PRODUCT) or products[PRODUCTS[0]])
        for pool, products in found.items()
    }


def other_prices(shown: DescribedInstance, charges: Charges) -> OtherPrices:
    """Return the prices of the address and the volume of an instance."""
    address = charges.public_ipv4_hourly_usd
    if shown.public_ipv4 is not True:
        address = None if shown.public_ipv4 is None else 0.0
    gib_hour = charges.volume_gib_hourly_usd(shown.launched_at)
    known = gib_hour is not None and shown.volume_gib is not None
    volume = gib_hour * shown.volume_gib if known else None  # type: ignore[operator]
    return OtherPrices(public_ipv4_hourly_usd=address, volume_hourly_usd=volume)


class Prices:
    """Prices, cached. An unknown one is None; no caller fails because of it."""

    def __init__(self, aws: Aws, clock: Clock, listed: ListPrices) -> None:
        self._aws = aws
        self._clock = clock
        self._listed = listed
        self._resting = Resting(clock)
        self._is_usd = is_priced_in_usd(aws.region)
        self._spot: dict[tuple[str, str], list[Change]] = {}
        self._spot_read: dict[str, tuple[datetime, datetime]] = {}  # type: start of the history, time read

    async def price(self, shown: Sequence[DescribedInstance]) -> list[Instance]:
        """Return these instances, each with the mean price of its life so far."""
        if not shown:
            return []
        now = self._clock.now()
        charges, *_ = await asyncio.gather(
            self._listed.charges(),
            self._listed.read_types({each.instance_type for each in shown if each.instance_type}),
            self._read_spot([each for each in shown if each.market == "spot"], now),
        )
        return [self._priced(each, charges, now) for each in shown]

    async def highest_of(self, plan: Plan) -> float | None:
        """Return the highest price now of the pools of *plan*, with address and volume.

        A Spot instance costs the Spot price at each time; the price on demand stands in for one
        that is not known: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-requests.html
        """
        types, zones = plan.get("vcpus", {}), set(plan["zones"].values())
        now = self._clock.now()
        charges, _ = await asyncio.gather(self._listed.charges(), self._listed.read_types(types))
        highest = self._highest_on_demand(types, zones)
        if plan["market"] == "spot":
            # What is known of the past stays: prices of running instances are read from it.
            since = {each: self._spot_read.get(each, (now,))[0] for each in types}
            await self._read_types(since, now)
            highest = self._highest_spot(types, zones) or highest
        if highest is None:
            return None
        gib = max(plan.get("volume_gib", {}).values(), default=0)
        address = charges.public_ipv4_hourly_usd if any(plan["public_ipv4"].values()) else 0
        return highest + (address or 0) + gib * (charges.volume_gib_hourly_usd(now) or 0)

    def _highest_on_demand(self, types: Iterable[str], zones: Iterable[str]) -> float | None:
        """Return the highest list price of *types*; None: one of them is not known."""
        if any(is_local(each, self._aws.region) for each in zones):
            return None
        prices = [self._listed.on_demand(each) for each in types]
        known = [each for each in prices if each is not None]
        return max(known, default=None) if len(known) == len(prices) else None

    def _highest_spot(self, types: Iterable[str], zones: Collection[str]) -> float | None:
        pools = (self._spot.get((kind, zone)) for kind in types for zone in zones)
        return max((each[-1].usd for each in pools if each), default=None)

    def _priced(self, shown: DescribedInstance, charges: Charges, now: datetime) -> Instance:
        is_away = is_local(shown.zone, self._aws.region)
        on_demand = None if is_away else self._listed.on_demand(shown.instance_type)
        usd = on_demand
        if shown.market == "spot":
            usd = self._spot_price(shown, shown.terminated_at or now)
        if not shown.is_plain:
            usd = on_demand = None
        if is_away:
            charges = replace(charges, volume_gib_month_usd=None)
        return shown.priced(usd, on_demand, other_prices(shown, charges))

    def _spot_price(self, shown: DescribedInstance, until: datetime) -> float | None:
        """Return the mean price of its life until then, as far as its history was read."""
        read = self._spot_read.get(shown.instance_type)
        if read is None or shown.launched_at < read[0] or until > read[1] + HOLDS:
            return None
        changes = self._spot.get((shown.instance_type, shown.zone), [])
        return mean_price(changes, shown.launched_at, until)

    async def _read_spot(self, shown: Sequence[DescribedInstance], now: datetime) -> None:
        since: dict[str, datetime] = {}
        for each in shown:
            if not each.instance_type:
                continue
            oldest = min(each.launched_at, since.get(each.instance_type, each.launched_at))
            since[each.instance_type] = oldest
        await self._read_types(since, now)

    async def _read_types(self, since: Mapping[str, datetime], now: datetime) -> None:
        """Read the Spot prices of these types, each from its time on."""
        stale = {name: at for name, at in since.items() if not self._is_fresh(name, at, now)}
        if not stale or self._resting.rests or not self._is_usd:
            return
        oldest = min(*stale.values(), now)  # AWS's clock may be ahead of ours
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                found = await self._aws.read_all(
                    "DescribeSpotPriceHistory",
                    "SpotPriceHistory",
                    InstanceTypes=sorted(stale),
                    ProductDescriptions=list(PRODUCTS),
                    StartTime=oldest,
                    EndTime=now,
                )
            read = read_history(found)
        except NO_PRICE as error:
            self._resting.fail(SPOT, error)
            return
        self._resting.succeed()
        # Another caller may have read more in the meantime.
        stale = {name: at for name, at in stale.items() if not self._is_fresh(name, at, now)}
        read = {pool: changes for pool, changes in read.items() if pool[0] in stale}
        # A pool that AWS shows no more has no price any more.
        kept = {pool: held for pool, held in self._spot.items() if pool[0] not in stale}
        self._spot = kept | read
        self._spot_read |= dict.fromkeys(stale, (oldest, now))

    def _is_fresh(self, name: str, since: datetime, now: datetime) -> bool:
        read = self._spot_read.get(name)
        return (
            read is not None
            and read[0] <= since
            and now - read[1] < timedelta(seconds=FRESH_SECONDS)
        )
