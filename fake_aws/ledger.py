"""The account's bill: the figures that other sums are compared with."""

from collections.abc import Iterable
from datetime import datetime

import msgspec

from fake_aws.instance import Instance
from fake_aws.prices import OtherCosts, Prices
from fake_aws.settings import CloudSettings

INTERRUPTED = "Server.SpotInstanceTermination"


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """The bill of one instance: it ran for *seconds*, and *billed_seconds* are charged.

    *cost_usd* is the sum of its lines: the instance, its public IPv4 address, its volumes.
    """

    instance_id: str
    market: str
    instance_type: str
    zone: str
    launched_at: datetime
    running_at: datetime | None
    ended_at: datetime | None
    state: str
    cause: str
    seconds: float
    billed_seconds: float
    cost_usd: float
    on_demand_usd: float
    """The on-demand price of the billed seconds."""
    tags: dict[str, str]
    instance_usd: float = 0.0
    public_ipv4_usd: float = 0.0
    volume_usd: float = 0.0


def bill(instance: Instance, prices: Prices, settings: CloudSettings, now: datetime) -> Bill:
    """Compute the bill of *instance* until *now*."""
    begin = instance.running_at
    end = instance.ended_at or now
    seconds = 0.0 if begin is None else max(0.0, (end - begin).total_seconds())
    free = (
        instance.reason_code == INTERRUPTED
        and seconds < settings.free_if_interrupted_within_seconds
    )
    billed = 0.0 if free or begin is None else max(settings.minimum_billed_seconds, seconds)
    kind, zone = instance.plan.kind, instance.plan.subnet.zone
    hourly = prices.on_demand(kind)
    cost = 0.0
    if billed and begin is not None:
        share = billed / seconds if seconds else 0.0
        spot = prices.cost(kind, zone, begin, end) * share if seconds else 0.0
        cost = spot if instance.plan.market == "spot" else billed * hourly / 3600
    other = _other_costs(instance, prices, settings, now)
    return Bill(
        instance_id=instance.id,
        market=instance.plan.market,
        instance_type=kind.name,
        zone=zone,
        launched_at=instance.launched_at,
        running_at=begin,
        ended_at=instance.ended_at,
        state=instance.state.label,
        cause=instance.reason_code,
        seconds=seconds,
        billed_seconds=billed,
        cost_usd=cost + sum(other),
        on_demand_usd=billed * hourly / 3600,
        tags=dict(instance.tags),
        instance_usd=cost,
        **other._asdict(),
    )


def _other_costs(
    instance: Instance, prices: Prices, settings: CloudSettings, now: datetime
) -> OtherCosts:
    """Compute what is billed whoever ends the instance, and when: addresses and volumes.

    From the launch on, by the second, for 60 s at least. A volume that the instance's end does not
    delete is billed until somebody deletes it.
    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/billing-for-interrupted-spot-instances.html,
    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/preserving-volumes-on-termination.html
    """
    begin, plan = instance.launched_at, instance.plan

    def cost(until: datetime, *, addresses: int, kept: bool) -> OtherCosts:
        seconds = max(settings.minimum_billed_seconds, (until - begin).total_seconds())
        gib = sum(each.gib for each in plan.volumes if each.ends_with_instance is not kept)
        return prices.other(begin, seconds, addresses=addresses, gib=gib)

    usual = cost(instance.ended_at or now, addresses=int(plan.public_ipv4), kept=False)
    left = cost(now, addresses=0, kept=True)
    return OtherCosts(usual.public_ipv4_usd, usual.volume_usd + left.volume_usd)


def total(bills: Iterable[Bill]) -> float:
    """Sum up the bills, in US dollars."""
    return sum(each.cost_usd for each in bills)
