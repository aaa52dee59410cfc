"""The parts of a plan: pools, and the parameters of CreateFleet for them. Pure."""

from collections.abc import Sequence
from decimal import Decimal
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from shared.compute.ec2.pools import CapacityPool
from shared.compute.ec2.shapes import DescribedInstance
from shared.compute.ec2.template import Version
from shared.compute.port import Offer, Plan
from shared.events.events import Market
from shared.events.offers import InstanceType

T = TypeVar("T", bound=InstanceType)


class Subnet(Struct, frozen=True, kw_only=True):
    """A subnet for instances."""

    id: str
    zone: str
    free_addresses: int
    public_ipv4: bool = False
    """Whether it assigns an instance a public IPv4 address: the template does not say."""


def one_a_zone(subnets: Sequence[Subnet]) -> list[Subnet]:
    """Choose the subnet with most free addresses in each zone; a pool is a type in a zone."""
    best: dict[str, Subnet] = {}
    for each in subnets:
        known = best.get(each.zone)
        if known is None or (each.free_addresses, known.id) > (known.free_addresses, each.id):
            best[each.zone] = each
    return [best[zone] for zone in sorted(best)]


def overrides_for(
    types: Sequence[T],
    subnets: Sequence[Subnet],
    without: set[CapacityPool],
    market: Market,
) -> list[tuple[T, Subnet]]:
    """Return every pool except those *without*."""
    return [
        (kind, subnet)
        for kind in types
        for subnet in subnets
        if CapacityPool(market, kind.name, subnet.zone) not in without
    ]


def fleet_of(
    offer: Offer,
    version: Version,
    pools: Sequence[tuple[InstanceType, Subnet]],
    max_price_usd: float | None,
) -> Plan:
    """Build the parameters of CreateFleet, without those of one batch (token, count, tag)."""
    price = {}
    if max_price_usd and offer.market == "spot":
        price = {"MaxPrice": decimal_text(max_price_usd)}
    strategy = "price-capacity-optimized" if offer.market == "spot" else "lowest-price"
    options = "SpotOptions" if offer.market == "spot" else "OnDemandOptions"
    return {
        "market": offer.market,
        "zones": {subnet.id: subnet.zone for _, subnet in pools},
        "fleet": {
            "Type": "instant",
            options: {"AllocationStrategy": strategy},
            "LaunchTemplateConfigs": [
                {
                    "LaunchTemplateSpecification": {
                        "LaunchTemplateId": version.template_id,
                        "Version": version.number,
                    },
                    "Overrides": [
                        {"InstanceType": kind.name, "SubnetId": subnet.id, **price}
                        for kind, subnet in pools
                    ],
                }
            ],
        },
    }


def charged(volumes_gib: int | None, pools: Sequence[tuple[InstanceType, Subnet]]) -> Plan:
    """Return what the plan's instances cost beside themselves; `with_charged` reads it.

    The size of all volumes by the type, since types with GPUs have larger ones, and none where it
    is not known; the address by the zone.
    """
    sizes = {} if volumes_gib is None else {kind.name: volumes_gib for kind, _ in pools}
    return {
        "volume_gib": sizes,
        "public_ipv4": {subnet.zone: subnet.public_ipv4 for _, subnet in pools},
    }


def sizes_of(pools: Sequence[tuple[InstanceType, Subnet]]) -> Plan:
    """Return the vCPUs of the plan's types, of which quotas have room or not."""
    return {"vcpus": {kind.name: kind.vcpus for kind, _ in pools}}


def with_charged(shown: DescribedInstance, plan: Plan) -> DescribedInstance:
    """Add to an instance of *plan* what EC2 does not show. Plans of earlier releases lack it."""
    address = shown.public_ipv4
    if address is None:
        address = plan.get("public_ipv4", {}).get(shown.zone)
    gib = plan.get("volume_gib", {}).get(shown.instance_type)
    return replace(shown, public_ipv4=address, volume_gib=gib)


def decimal_text(number: float) -> str:
    """Write *number* as EC2 reads numbers in text: in fixed point, never with an exponent."""
    return format(Decimal(repr(number)), "f")
