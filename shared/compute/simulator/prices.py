"""The offers of a simulated cloud: its pools at their prices."""

from collections.abc import Sequence

from shared.compute.port import PricedOffers
from shared.compute.simulator.faults import Faults, SimulatedPool
from shared.events.offers import OfferedType, OfferTerms


def offers_of(pools: Sequence[SimulatedPool], faults: Faults) -> PricedOffers:
    """Offer *pools*. It has no price on demand, as its instances have none."""
    by_type: dict[str, list[SimulatedPool]] = {}
    for pool in pools:
        by_type.setdefault(pool.instance_type, []).append(pool)
    return PricedOffers(
        terms=OfferTerms(
            chooses=False,
            zones=tuple(sorted({pool.zone for pool in pools})),
            start_seconds=faults.boot_seconds + faults.pull_seconds,
        ),
        types=tuple(_offered(found) for found in by_type.values()),
    )


def highest_price(offers: PricedOffers) -> float | None:
    """Return the price of the dearest pool."""
    prices = (usd for each in offers.types for usd in each.spot_hourly_prices_usd.values())
    return max((usd for usd in prices if usd is not None), default=None)


def _offered(pools: Sequence[SimulatedPool]) -> OfferedType:
    """Return the type that all of *pools* have, with the price in each zone."""
    return OfferedType(
        name=pools[0].instance_type,
        vcpus=pools[0].vcpus,
        memory_mib=pools[0].memory_mib,
        gpus=0,
        architectures=("x86_64",),
        markets=("spot", "on-demand"),
        current=True,
        burstable=False,
        bare_metal=False,
        spot_hourly_prices_usd={pool.zone: pool.hourly_price_usd for pool in pools},
    )
