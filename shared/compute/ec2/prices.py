"""Prices an hour: Spot by the price history of the zone, on-demand by a list."""

import asyncio
import contextlib
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from shared.backoff import Backoff
from shared.clock import Clock
from shared.compute.ec2.cache import Cache
from shared.compute.ec2.client import Aws
from shared.compute.ec2.price_list import price_list_query, read_price_list
from shared.compute.ec2.settings import PriceSource
from shared.compute.ec2.shapes import DescribedInstance
from shared.compute.port import ComputeError, Instance
from shared.log import get_logger

_log = get_logger(part="ec2")

FRESH_SECONDS = 300.0
"""Spot prices change a few times a day
(https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/how-spot-instances-work.html)."""

LISTED_SECONDS = 86_400.0
"""List prices change a few times a year."""

RETRY = Backoff(first=60, factor=2, longest=3600)
"""After a call for prices that failed."""

WAIT_SECONDS = 8.0
"""The longest wait of a launch for prices: it must be recorded within its own limit."""

NO_PRICE = (ComputeError, TimeoutError, LookupError, TypeError, ValueError)
"""Errors of a call that fails, takes too long, or has an unreadable answer."""

SPOT = "Spot"
PRODUCT = "Linux/UNIX"

TABLE_REGIONS = frozenset({"us-east-1", "us-east-2", "us-west-2"})
# USD an hour of the size `large` (2 vCPUs) in these regions, Linux, on demand, from the public
# price list of https://aws.amazon.com/ec2/pricing/on-demand/ as it stood in 2025. Other sizes of a
# family cost in proportion.
# fmt: off
LARGE_USD: dict[str, float] = {
    "c5": 0.085, "c5a": 0.077, "c6a": 0.0765, "c6i": 0.085, "c7a": 0.10264, "c7i": 0.08925,
    "m5": 0.096, "m5a": 0.086, "m6a": 0.0864, "m6i": 0.096, "m7a": 0.11592, "m7i": 0.1008,
    "r5": 0.126, "r5a": 0.113, "r6a": 0.1134, "r6i": 0.126, "r7a": 0.15215, "r7i": 0.1323,
    "c6g": 0.068, "c7g": 0.0725, "m6g": 0.077, "m7g": 0.0816, "r6g": 0.1008, "r7g": 0.1071,
}
# fmt: on
SIZES: dict[str, float] = {"medium": 0.5, "large": 1, "xlarge": 2} | {
    f"{count}xlarge": 2.0 * count for count in (2, 4, 8, 12, 16, 24)
}


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


def table_price(instance_type: str, region: str) -> float | None:
    """Return the on-demand price by the table above."""
    family, _, size = instance_type.partition(".")
    large, times = LARGE_USD.get(family), SIZES.get(size)
    if region not in TABLE_REGIONS or large is None or times is None:
        return None
    return round(large * times, 5)


class Prices:
    """Prices, cached. An unknown one is None; no caller fails because of it."""

    def __init__(self, aws: Aws, clock: Clock, source: PriceSource) -> None:
        self._aws = aws
        self._clock = clock
        self._source = source
        self._spot: dict[tuple[str, str], list[Change]] = {}
        self._spot_read: dict[str, tuple[datetime, datetime]] = {}  # type: start of the history, time read
        self._on_demand: dict[str, float | None] = {}
        self._listed = Cache(clock)
        self._failed: dict[str, tuple[int, datetime]] = {}  # type or SPOT: tries, next try

    async def price(self, shown: Sequence[DescribedInstance]) -> list[Instance]:
        """Return these instances, each with the mean price of its life so far."""
        now = self._clock.now()
        names = {each.instance_type for each in shown if each.instance_type}
        await asyncio.gather(
            self._read_spot([each for each in shown if each.market == "spot"], now),
            *(self._read_on_demand(each) for each in sorted(names)),
        )
        return [self._priced(each, now) for each in shown]

    def _priced(self, shown: DescribedInstance, now: datetime) -> Instance:
        on_demand = self._on_demand.get(shown.instance_type)
        usd = on_demand
        if shown.market == "spot":
            changes = self._spot.get((shown.instance_type, shown.zone), [])
            usd = mean_price(changes, shown.launched_at, shown.terminated_at or now)
        return shown.priced(usd, on_demand)

    async def _read_spot(self, shown: Sequence[DescribedInstance], now: datetime) -> None:
        since: dict[str, datetime] = {}
        for each in shown:
            if not each.instance_type:
                continue
            oldest = min(each.launched_at, since.get(each.instance_type, each.launched_at))
            since[each.instance_type] = oldest
        stale = {name: at for name, at in since.items() if not self._is_fresh(name, at, now)}
        if not stale or self._rests(SPOT):
            return
        oldest = min(stale.values())
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                found = await self._aws.read_all(
                    "DescribeSpotPriceHistory",
                    "SpotPriceHistory",
                    InstanceTypes=sorted(stale),
                    ProductDescriptions=[PRODUCT],
                    StartTime=oldest,
                    EndTime=now,
                )
        except NO_PRICE as error:
            self._fail(SPOT, error)
            return
        self._failed.pop(SPOT, None)
        read: dict[tuple[str, str], list[Change]] = {}
        for row in found:
            pool = row["InstanceType"], row["AvailabilityZone"]
            change = Change(row["Timestamp"].astimezone(UTC), float(row["SpotPrice"]))
            read.setdefault(pool, []).append(change)
        self._spot |= {pool: sorted(changes) for pool, changes in read.items()}
        self._spot_read |= dict.fromkeys(stale, (oldest, now))

    def _is_fresh(self, name: str, since: datetime, now: datetime) -> bool:
        read = self._spot_read.get(name)
        return (
            read is not None
            and read[0] <= since
            and now - read[1] < timedelta(seconds=FRESH_SECONDS)
        )

    async def _read_on_demand(self, name: str) -> None:
        if self._source != "api":
            in_table = self._source == "table"
            self._on_demand[name] = table_price(name, self._aws.region) if in_table else None
            return
        if self._rests(name):
            return
        with contextlib.suppress(*NO_PRICE):
            async with asyncio.timeout(WAIT_SECONDS):  # the next caller finds the answer
                await self._listed.get(name, LISTED_SECONDS, lambda: self._read_listed(name))

    async def _read_listed(self, name: str) -> None:
        """Read one price; if that fails, the former one stays."""
        try:
            self._on_demand[name] = await self._listed_price(name)
        except NO_PRICE as error:
            self._fail(name, error)
            raise
        self._failed.pop(name, None)

    def _rests(self, name: str) -> bool:
        return name in self._failed and self._clock.now() < self._failed[name][1]

    def _fail(self, name: str, error: Exception) -> None:
        tries = self._failed.get(name, (0, None))[0] + 1
        seconds = RETRY.delay(tries, random.random())
        self._failed[name] = tries, self._clock.now() + timedelta(seconds=seconds)
        _log.warning("no price", of=name, error=str(error) or type(error).__name__)

    async def _listed_price(self, name: str) -> float | None:
        """Read it from the Price List API."""
        query = price_list_query(self._aws.region, instanceType=name)
        answer = await self._aws.read("GetProducts", service="pricing", **query)
        return read_price_list(answer.get("PriceList") or []).get(name)
