"""The common parts of adapters whose instances are on one machine.

Their offer is the machine itself, for any job, and what they do not find there does not exist.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from shared.compute.port import Instance, NotFound, PricedOffers
from shared.events.offers import OfferedType, OfferTerms
from shared.events.requirements import Resources

ZONE = "local"
ARCHITECTURES = {"aarch64": "arm64", "amd64": "x86_64"}
"""The kernel's and the engine's names of what EC2 calls otherwise."""

START_SECONDS = 2.0


class MachineCosts:
    """The estimates of plans on a machine that all instances share: each has a part of it."""

    name: str
    machine_hourly_usd: float

    def vcpus_of(self, plan: dict[str, Any], resources: Resources) -> Mapping[str, int]:  # noqa: ARG002 - the port's
        """Return what the job asks for, else one."""
        return {self.name: resources.vcpus or 1}

    async def highest_price_of(self, plan: dict[str, Any], resources: Resources) -> float | None:  # noqa: ARG002 - the port's
        """Return the price of the setting."""
        return self.machine_hourly_usd


def machine_offer(
    instance_type: str, *, vcpus: int, memory_bytes: int, machine: str, hourly_price_usd: float
) -> PricedOffers:
    """Offer the machine at one price, whatever the market."""
    offered = OfferedType(
        name=instance_type,
        vcpus=vcpus,
        memory_mib=memory_bytes // 2**20,
        gpus=0,
        architectures=(ARCHITECTURES.get(machine.lower(), machine),),
        markets=("spot", "on-demand"),
        current=True,
        burstable=False,
        bare_metal=False,
        on_demand_hourly_price_usd=hourly_price_usd,
        spot_hourly_prices_usd={ZONE: hourly_price_usd},
    )
    terms = OfferTerms(chooses=False, zones=(ZONE,), start_seconds=START_SECONDS)
    return PricedOffers(terms=terms, types=(offered,))


def answers(
    instance_ids: Sequence[str], shown: Mapping[str, Instance]
) -> dict[str, Instance | NotFound]:
    """Return the answer about each instance, of which the machine shows *shown*."""
    return {each: shown.get(each) or NotFound(final=True) for each in instance_ids}
