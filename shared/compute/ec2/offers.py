"""EC2's offers in the deployment's zones, with their prices now: for plans, not for launches.

A region has about a thousand types. To describe them takes ten calls a day, the prices on demand
ten more (or none, see `PriceSource`), and the Spot prices of all zones some five calls each time.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from shared.clock import Clock
from shared.compute.choice import most_types
from shared.compute.ec2.cache import Cache
from shared.compute.ec2.client import Aws
from shared.compute.ec2.instance_types import read_instance_type
from shared.compute.ec2.price_list import price_list_query, read_price_list
from shared.compute.ec2.prices import LISTED_SECONDS, NO_PRICE, PRODUCT, table_price
from shared.compute.ec2.settings import Ec2Settings
from shared.compute.ec2.shapes import MINIMUM_BILLED_SECONDS, filters
from shared.compute.port import PricedOffers
from shared.events.offers import InstanceType, OfferedType, OfferTerms
from shared.log import get_logger

_log = get_logger(part="ec2")

TYPES_SECONDS = 86_400.0

START_SECONDS = 60.0
"""The usual time from a launch to a running container: the machine boots, the image is pulled."""


class OfferReader:
    """Reads them. What seldom changes is kept for a day."""

    def __init__(
        self,
        aws: Aws,
        clock: Clock,
        settings: Ec2Settings,
        zones: Callable[[], Awaitable[tuple[str, ...]]],
    ) -> None:
        self._aws = aws
        self._clock = clock
        self._settings = settings
        self._zones = zones
        self._cache = Cache(clock)
        self._listed: dict[str, float] = {}

    async def read(self) -> PricedOffers:
        """Read all. Raises a `ComputeError` without types or Spot prices."""
        zones = await self._zones()
        types = await self._cache.get("types", TYPES_SECONDS, self._types)
        spot = await self._spot(zones)
        on_demand = await self._on_demand([each.name for each in types])
        return PricedOffers(
            terms=terms_of(self._settings, zones),
            types=tuple(
                priced(each, on_demand.get(each.name), spot.get(each.name, {})) for each in types
            ),
        )

    async def _types(self) -> list[InstanceType]:
        shown = await self._aws.read_all("DescribeInstanceTypes", "InstanceTypes")
        types = (read_instance_type(each) for each in shown)
        return sorted(types, key=lambda each: each.name)

    async def _spot(self, zones: Sequence[str]) -> dict[str, dict[str, float | None]]:
        """Read the current Spot prices by type and zone.

        From now until now: the history then has the price that holds at its start, one of a pool.
        https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSpotPriceHistory.html
        """
        now = self._clock.now()
        rows = await self._aws.read_all(
            "DescribeSpotPriceHistory",
            "SpotPriceHistory",
            ProductDescriptions=[PRODUCT],
            Filters=filters(availability_zone=zones),
            StartTime=now,
            EndTime=now,
        )
        return newest(rows)

    async def _on_demand(self, names: Sequence[str]) -> Mapping[str, float | None]:
        if self._settings.prices == "table":
            return {name: table_price(name, self._aws.region) for name in names}
        if self._settings.prices == "none":
            return {}
        try:
            self._listed = await self._cache.get("listed", LISTED_SECONDS, self._price_list)
        except NO_PRICE as error:  # the former ones hold
            _log.warning("no price list", error=str(error) or type(error).__name__)
        return self._listed

    async def _price_list(self) -> dict[str, float]:
        """Read the prices on demand of all types."""
        products: Sequence[Any] = await self._aws.read_all(
            "GetProducts", "PriceList", service="pricing", **price_list_query(self._aws.region)
        )
        return read_price_list(products)


def terms_of(settings: Ec2Settings, zones: tuple[str, ...]) -> OfferTerms:
    """Return how the planner chooses with these settings."""
    return OfferTerms(
        chooses=True,
        zones=zones,
        most_types=most_types(len(zones)),
        instance_types=settings.instance_types,
        vcpus=settings.vcpus,
        memory_mib=settings.memory_mib,
        architecture=settings.architecture,
        max_price_usd=settings.max_price_usd,
        minimum_billed_seconds=MINIMUM_BILLED_SECONDS,
        start_seconds=START_SECONDS,
        own_image=settings.own_image,
    )


def priced(
    kind: InstanceType, on_demand_usd: float | None, spot_usd: dict[str, float | None]
) -> OfferedType:
    """Return *kind* with its prices."""
    fields = {name: getattr(kind, name) for name in InstanceType.__struct_fields__}
    return OfferedType(
        **fields,
        on_demand_hourly_price_usd=on_demand_usd,
        spot_hourly_prices_usd=dict(sorted(spot_usd.items())),
    )


def newest(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Return the newest price of each type in each zone."""
    known: dict[tuple[str, str], tuple[datetime, float]] = {}
    for row in rows:
        pool, at = (row["InstanceType"], row["AvailabilityZone"]), row["Timestamp"]
        if pool not in known or known[pool][0] < at:
            known[pool] = at, float(row["SpotPrice"])
    found: dict[str, dict[str, float | None]] = {}
    for (name, zone), (_, usd) in known.items():
        found.setdefault(name, {})[zone] = usd
    return found
