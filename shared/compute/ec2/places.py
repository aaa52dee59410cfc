"""The places of a plan: the pools that fit a job, exist, and do not rest. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from shared.compute.avoided import Avoided, least_avoided
from shared.compute.choice import Wanted, choose, most_types
from shared.compute.ec2.error_rules import SUBNETS
from shared.compute.ec2.fleet_plans import Subnet, overrides_for
from shared.compute.ec2.instance_types import DescribedType
from shared.compute.ec2.pools import CapacityPool, RestingPools, summarize
from shared.compute.ec2.zone_types import ZoneTypes
from shared.compute.port import ComputeError, Misconfigured, NoCapacity, Rejected
from shared.events.events import Market

Place = tuple[DescribedType, Subnet]

NOT_LISTED = "EC2 has not listed the types of its zones, and is asked again"
OTHER_TYPES = "other types are tried"


class Places(Struct, frozen=True, kw_only=True):
    """The places for a job, the smallest type first.

    *partial*: why others may do if all of these can never; empty if there are no others.
    """

    chosen: Sequence[DescribedType]
    open: Sequence[Place]
    partial: str = ""


def find_places(
    types: Mapping[str, DescribedType],
    wanted: Wanted,
    subnets: Sequence[Subnet],
    offered: ZoneTypes,
    resting: RestingPools,
    market: Market,
    now: datetime,
    avoid: Sequence[Avoided] = (),
) -> Places:
    """Find them. Raises `Rejected` or `Misconfigured` if there are none, `NoCapacity` if all rest.

    A pool that EC2 has refused as one that does not exist is none, whatever EC2 lists. One to
    *avoid* is left out while there are others.
    """
    refused = resting.unfit(now)
    missing = {
        pool
        for pool in _pools(types.values(), subnets, market)
        if pool in refused or not offered.has(pool.instance_type, pool.zone)
    }
    chosen = _chosen(types, wanted, subnets, missing, offered, market)
    pools = [each for each in _pools(chosen, subnets, market) if each not in missing]
    awake = overrides_for(chosen, subnets, missing | resting.among(pools, now), market)
    places = resting.within_quotas(awake, market, now)
    if not places:
        raise resting.shortage(pools)
    places = least_avoided(places, avoid, lambda each: (each[0].name, each[1].zone))
    asked = {CapacityPool(market, kind.name, at.zone) for kind, at in places}
    left_out = [each for each in pools if each not in asked]
    return Places(chosen=chosen, open=places, partial=_partial(left_out, wanted, offered))


def _pools(
    types: Iterable[DescribedType], subnets: Sequence[Subnet], market: Market
) -> list[CapacityPool]:
    return [CapacityPool(market, kind.name, at.zone) for kind in types for at in subnets]


def _chosen(
    types: Mapping[str, DescribedType],
    wanted: Wanted,
    subnets: Sequence[Subnet],
    missing: set[CapacityPool],
    offered: ZoneTypes,
    market: Market,
) -> list[DescribedType]:
    """Choose among the types that the zones have."""
    here = {
        name: kind
        for name, kind in types.items()
        if any(CapacityPool(market, name, at.zone) not in missing for at in subnets)
    }
    names = tuple(each for each in wanted.names if each in here or each not in types)
    if names or not wanted.names:
        try:
            return choose(here, replace(wanted, names=names), market, most_types(len(subnets)))
        except Rejected:
            if len(here) == len(types):
                raise
    elsewhere = choose(types, wanted, market)  # `Rejected` if it is for another reason
    names = tuple(each.name for each in elsewhere if wanted.names)
    zones = [each.zone for each in subnets]
    raise _not_in(zones, names, offered)


def _not_in(zones: Sequence[str], names: Sequence[str], offered: ZoneTypes) -> ComputeError:
    """Return the error for what no zone has: types that the job names, or all that would fit.

    It is the deployment's subnets that decide which zones count: another one can mend it.
    """
    where = f"the subnets' zones ({', '.join(zones)})"
    if offered.may_be_listed:
        return NoCapacity(f"EC2 refuses the types in {where}; {NOT_LISTED}")
    if not names:
        return Misconfigured(f"{where} have no type that fits", change=SUBNETS)
    if not any(map(offered.has_anywhere, names)):
        return Rejected(f"the region does not offer {', '.join(names)}")
    if any(offered.has(each, zone) for each in names for zone in zones):
        return Rejected(f"EC2 refuses {', '.join(names)} in {where}")
    return Misconfigured(
        f"{where} do not offer {', '.join(names)}, other zones of the region do", change=SUBNETS
    )


def _partial(left_out: Sequence[CapacityPool], wanted: Wanted, offered: ZoneTypes) -> str:
    reasons = []
    if left_out:
        reasons.append(f"not asked now: {summarize(left_out)}")
    if not wanted.names:
        reasons.append(OTHER_TYPES)
    if offered.may_be_listed:
        reasons.append(NOT_LISTED)
    return "; ".join(reasons)
