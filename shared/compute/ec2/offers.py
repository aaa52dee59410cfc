"""EC2's offers in the deployment's zones, with their prices now: for plans, not for launches.

A region has about a thousand types. To describe them takes ten calls a day, the prices on demand
ten more (or none, see `PriceSource`), and the Spot prices of all zones some five calls each time.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from shared.clock import Clock
from shared.compute.choice import most_types
from shared.compute.ec2.cache import Cache
from shared.compute.ec2.client import Aws
from shared.compute.ec2.instance_types import read_instance_type
from shared.compute.ec2.list_prices import Charges, ListPrices
from shared.compute.ec2.price_list import is_local, is_priced_in_usd
from shared.compute.ec2.prices import PRODUCTS, read_history
from shared.compute.ec2.settings import Ec2Settings
from shared.compute.ec2.shapes import MINIMUM_BILLED_SECONDS, filters
from shared.compute.ec2.zone_types import ZoneTypesReader
from shared.compute.port import PricedOffers
from shared.events.costs import OtherTerms
from shared.events.offers import InstanceType, OfferedType, OfferTerms

TYPES_SECONDS = 86_400.0

START_SECONDS = 60.0
"""The usual time from a launch to a running container: the machine boots, the image is pulled."""


class OfferReader:
    """Reads them. What seldom changes is kept for a day.

    *zones* reads the zones of the subnets, and whether each assigns public IPv4 addresses.
    """

    def __init__(
        self,
        aws: Aws,
        clock: Clock,
        settings: Ec2Settings,
        zones: Callable[[], Awaitable[Mapping[str, bool]]],
        listed: ListPrices,
        zone_types: ZoneTypesReader,
    ) -> None:
        self._aws = aws
        self._clock = clock
        self._settings = settings
        self._zones = zones
        self._cache = Cache(clock)
        self._listed = listed
        self._zone_types = zone_types

    async def read(self) -> PricedOffers:
        """Read all. Raises a `ComputeError` without types or Spot prices."""
        zones = await self._zones()
        offered = await self._zone_types.read(tuple(zones))
        types = [
            each
            for each in await self._cache.get("types", TYPES_SECONDS, self._types)
            if any(offered.has(each.name, zone) for zone in zones)
        ]
        spot = await self._spot(tuple(zones))
        on_demand = await self._listed.read_all_types([each.name for each in types])
        charges = await self._listed.charges()
        if any(is_local(each, self._aws.region) for each in zones):
            on_demand, charges = {}, replace(charges, volume_gib_month_usd=None)
        return PricedOffers(
            terms=replace(
                terms_of(self._settings, tuple(zones)),
                other=other_terms(charges, zones, self._settings, self._clock.now()),
                listed_as_of=self._listed.table_as_of(),
            ),
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
            ProductDescriptions=list(PRODUCTS),
            Filters=filters(availability_zone=zones),
            StartTime=now,
            EndTime=now,
        )
        return newest(rows, is_usd=is_priced_in_usd(self._aws.region))


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


def other_terms(
    charges: Charges, zones: Mapping[str, bool], settings: Ec2Settings, now: datetime
) -> OtherTerms:
    """Return the prices beside those of instances; *zones*: whether each assigns addresses."""
    return OtherTerms(
        public_ipv4_hourly_usd={
            zone: charges.public_ipv4_hourly_usd for zone, assigns in zones.items() if assigns
        },
        volume_gib_hourly_usd=charges.volume_gib_hourly_usd(now),
        disk_gib=settings.disk_gib,
        gpu_disk_gib=settings.gpu_disk_gib,
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


def newest(
    rows: Sequence[Mapping[str, Any]], *, is_usd: bool = True
) -> dict[str, dict[str, float | None]]:
    """Return the newest price of each type in each zone; None where it is in another currency."""
    found: dict[str, dict[str, float | None]] = {}
    for (name, zone), changes in read_history(rows).items():
        found.setdefault(name, {})[zone] = changes[-1].usd if is_usd else None
    return found
