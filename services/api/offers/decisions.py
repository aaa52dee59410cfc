"""The plan of a job: what would be tried, in which order, when it would start, what it would cost.

Pure. The types are chosen by the launcher's own rule (`shared.compute.choice`). Among them EC2
itself chooses by price and by capacity, which only it knows; the plan has the cheapest first.
"""

import math
from collections.abc import Iterator, Sequence
from datetime import timedelta
from statistics import median

from msgspec import Struct
from msgspec.structs import replace

from services.api.jobs.costs import hourly_with, price_of, rounded
from services.api.jobs.model import JobRules
from services.api.offers.model import (
    ExpectedFrom,
    JobPlan,
    KnownOffers,
    PlannedChoice,
    PlanRequest,
    RecentStart,
)
from shared.compute.choice import NotSold, choose, wanted_by
from shared.compute.port import Rejected
from shared.events.costs import OtherPrices
from shared.events.events import Market
from shared.events.offers import OfferedType, OfferTerms
from shared.events.requirements import Capacity, Resources

MOST_CHOICES = 50
ON_DEMAND_CHOICES = 10
"""Of these, for a job that takes Spot first: so that it shows where it would go then."""

NO_PRICES = "the launcher has published no prices yet"

MARKETS: dict[Capacity, tuple[Market, ...]] = {
    "spot": ("spot",),
    "spot_then_on_demand": ("spot", "on-demand"),
    "on_demand": ("on-demand",),
}
NAMED = 8
"""Types that a message names; the others are counted."""


class PricedPool(Struct, frozen=True, kw_only=True):
    """A type in a zone on a market, and its price an hour."""

    kind: OfferedType
    zone: str
    market: Market
    usd: float | None


class UsualStart(Struct, frozen=True, kw_only=True):
    """The usual time from the due time to the container, and the part of it that is billed."""

    wait_seconds: float
    boot_seconds: float
    is_known: bool


def decide_plan(
    request: PlanRequest, known: KnownOffers | None, recent: Sequence[RecentStart], rules: JobRules
) -> JobPlan:
    """Plan the job of *request*. *recent*: how jobs of late have started."""
    pools, message = _found(request, known)
    fits = known is None or message is None
    start = decide_start(recent, known) if fits else None
    expected, source = _expected(request, rules)
    billed = _billed_seconds(expected, start, known)
    terms = None if known is None else known.terms
    others = [other_prices(terms, each, request.job.resources) for each in pools]
    choices = tuple(
        _choice(each, place, billed, other)
        for place, (each, other) in enumerate(zip(pools, others, strict=True), start=1)
    )
    plan = JobPlan(
        scheduled_for=request.job.scheduled_for,
        capacity=request.job.capacity,
        expected_seconds=expected,
        expected_from=source,
        prices_as_of=None if known is None else known.priced_at,
        cost_usd=choices[0].cost_usd if choices else None,
        on_demand_cost_usd=_on_demand_cost(pools[0], billed, others[0]) if pools else None,
        list_prices_as_of=None if terms is None else terms.listed_as_of,
        message=message,
        choices=choices,
    )
    return plan if start is None else _starting(plan, start)


def decide_start(recent: Sequence[RecentStart], known: KnownOffers | None) -> UsualStart | None:
    """Return the median of *recent*; without any, what the launcher's adapter says; else None."""
    default = None if known is None else known.terms.start_seconds
    boots = [each.boot_seconds for each in recent if each.boot_seconds is not None]
    boot = median(boots) if boots else default or 0.0
    if recent:
        wait = median(each.wait_seconds for each in recent)
        return UsualStart(wait_seconds=wait, boot_seconds=boot, is_known=True)
    if default is None:
        return None
    return UsualStart(wait_seconds=default, boot_seconds=boot, is_known=False)


def _starting(plan: JobPlan, start: UsualStart) -> JobPlan:
    return replace(
        plan,
        likely_start_at=plan.scheduled_for + timedelta(seconds=start.wait_seconds),
        likely_start_seconds=round(start.wait_seconds, 1),
        likely_start_from="recent_jobs" if start.is_known else "default",
    )


def _found(
    request: PlanRequest, known: KnownOffers | None
) -> tuple[Sequence[PricedPool], str | None]:
    """Return the pools, or why there are none."""
    if known is None:
        return (), NO_PRICES
    try:
        return _pools(request.job.resources, request.job.capacity, known), None
    except Rejected as error:
        return (), f"no instance type fits: {error}"


def _pools(resources: Resources, capacity: Capacity, known: KnownOffers) -> list[PricedPool]:
    """Return the pools in the order of their tries. Raises `Rejected` if there is none."""
    found: list[PricedPool] = []
    missing = ""
    for market in MARKETS[capacity]:
        try:
            chosen = _chosen(resources, market, known)
        except NotSold as error:
            missing = str(error)
            continue
        except Rejected:
            if market == MARKETS[capacity][0]:  # the launcher refuses the job then
                raise
            break
        pools = _on_market(chosen, market, known.terms)
        if not pools:
            missing = missing or _unavailable(chosen, market, known.terms)
        elif found:
            pools = pools[:ON_DEMAND_CHOICES]
            found = found[: MOST_CHOICES - len(pools)]
        found += pools
    if not found:
        raise Rejected(missing)
    return found[:MOST_CHOICES]


def _rank(pool: PricedPool) -> tuple[bool, float, str, str]:
    return pool.usd is None, pool.usd or 0.0, pool.kind.name, pool.zone


def _chosen(resources: Resources, market: Market, known: KnownOffers) -> Sequence[OfferedType]:
    """Choose as the launcher does, which leaves out named types that its zones do not have."""
    if not known.terms.chooses:
        return known.types
    types = {each.name: each for each in known.types}
    wanted = wanted_by(resources, known.terms)
    there = tuple(each for each in wanted.names if each in types)
    if wanted.names and not there:
        named = ", ".join(wanted.names)
        raise Rejected(f"unknown instance types, or none of the deployment's zones: {named}")
    return choose(types, replace(wanted, names=there), market, known.terms.most_types)


def _on_market(
    chosen: Sequence[OfferedType], market: Market, terms: OfferTerms
) -> list[PricedPool]:
    """Return the pools for which the deployment pays the price, the cheapest first."""
    most = terms.max_price_usd if market == "spot" else None
    pools = (pool for kind in chosen for pool in _of_type(kind, market, terms.zones))
    affordable = (each for each in pools if not most or each.usd is None or each.usd <= most)
    return sorted(affordable, key=_rank)


def _of_type(kind: OfferedType, market: Market, zones: Sequence[str]) -> Iterator[PricedPool]:
    if market == "spot":
        for zone, usd in kind.spot_hourly_prices_usd.items():
            yield PricedPool(kind=kind, zone=zone, market=market, usd=usd)
    elif market in kind.markets:
        usd = kind.on_demand_hourly_price_usd
        for zone in sorted(kind.spot_hourly_prices_usd) or zones:  # where it is known to exist
            yield PricedPool(kind=kind, zone=zone, market=market, usd=usd)


def _unavailable(chosen: Sequence[OfferedType], market: Market, terms: OfferTerms) -> str:
    names = [each.name for each in chosen]
    named = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if names[NAMED:] else "")
    if market == "spot" and any(each.spot_hourly_prices_usd for each in chosen):
        most = terms.max_price_usd
        return f"the Spot price of {named} is above the deployment's {most:g} USD an hour"
    return f"there is no {'Spot' if market == 'spot' else 'on-demand'} offer of {named}"


def _expected(request: PlanRequest, rules: JobRules) -> tuple[int, ExpectedFrom]:
    if request.expected_seconds is not None:
        return request.expected_seconds, "expected_seconds"
    if request.job.timeout_seconds is not None:
        return request.job.timeout_seconds, "timeout_seconds"
    return rules.max_lifetime_seconds, "max_lifetime_seconds"


def _billed_seconds(expected: int, start: UsualStart | None, known: KnownOffers | None) -> int:
    """Return the seconds that would be billed: the instance boots before its container runs."""
    boot = start.boot_seconds if start else 0.0
    least = known.terms.minimum_billed_seconds if known else 0
    return max(least, math.ceil(expected + boot))


def other_prices(
    terms: OfferTerms | None, pool: PricedPool, resources: Resources
) -> OtherPrices | None:
    """Return the prices of address and volume in *pool*; None: an earlier release knows none."""
    if terms is None or terms.other is None:
        return None
    other = terms.other
    for_gpus = other.gpu_disk_gib if pool.kind.gpus else 0
    disk_gib = resources.disk_gib or for_gpus or other.disk_gib
    gib_hour = other.volume_gib_hourly_usd
    return OtherPrices(
        public_ipv4_hourly_usd=other.public_ipv4_hourly_usd.get(pool.zone, 0.0),
        volume_hourly_usd=None if gib_hour is None else gib_hour * disk_gib,
    )


def _on_demand_cost(
    pool: PricedPool, billed_seconds: int, other: OtherPrices | None
) -> float | None:
    hourly = hourly_with(pool.kind.on_demand_hourly_price_usd, other)
    return rounded(price_of(billed_seconds, hourly))


def _choice(
    pool: PricedPool, place: int, billed_seconds: int, other: OtherPrices | None
) -> PlannedChoice:
    kind = pool.kind
    return PlannedChoice(
        place=place,
        instance_type=kind.name,
        zone=pool.zone,
        market=pool.market,
        hourly_price_usd=pool.usd,
        on_demand_hourly_price_usd=kind.on_demand_hourly_price_usd,
        cost_usd=rounded(price_of(billed_seconds, hourly_with(pool.usd, other))),
        vcpus=kind.vcpus,
        memory_mib=kind.memory_mib,
        gpus=kind.gpus,
        architecture=kind.architectures[-1],  # "i386, x86_64" of some old ones
    )
