"""The compute port on EC2: `launching`, `ending`, `listing`, `offers` and `prices` do the work."""

from collections.abc import Mapping, Sequence

from shared.clock import Clock
from shared.compute.ec2.client import Aws
from shared.compute.ec2.confirmation import Confirmation
from shared.compute.ec2.console import console_output
from shared.compute.ec2.ending import INSTANCE_ID, InstanceEnder
from shared.compute.ec2.errors import at_fault
from shared.compute.ec2.launching import FleetLauncher
from shared.compute.ec2.list_prices import ListPrices
from shared.compute.ec2.listing import InstanceListing
from shared.compute.ec2.offers import OfferReader
from shared.compute.ec2.planner import Planner
from shared.compute.ec2.pools import RestingPools
from shared.compute.ec2.prices import Prices
from shared.compute.ec2.settings import Ec2Settings
from shared.compute.ec2.shapes import is_request
from shared.compute.port import (
    ComputeError,
    Instance,
    InstanceState,
    LaunchBatch,
    NotFound,
    Offer,
    Plan,
    PricedOffers,
    Rejected,
    Throttled,
    Unknown,
)
from shared.events.requirements import Resources


class Ec2Compute:
    """One deployment's instances in one region; *agent_sha256* is the hash of their agent."""

    name = "ec2"
    gathers = True

    def __init__(
        self,
        region: str,
        deployment: str,
        clock: Clock,
        agent_sha256: str,
        settings: Ec2Settings | None = None,
    ) -> None:
        settings = settings or Ec2Settings()
        self._deployment = deployment
        self._aws = Aws(region)
        resting = RestingPools(settings.pool_rest_seconds)
        self._planner = Planner(self._aws, clock, settings, resting, deployment, agent_sha256)
        self._listing = InstanceListing(self._aws, deployment)
        listed = ListPrices(self._aws, clock, settings.prices)
        self._prices = Prices(self._aws, clock, listed)
        self._offers = OfferReader(
            self._aws, clock, settings, self._planner.zones, listed, self._planner.zone_types
        )
        self._launcher = FleetLauncher(
            self._aws, clock, self._planner, self._listing, self._prices, resting
        )
        self._ender = InstanceEnder(self._aws, self._listing)
        self._confirmation = Confirmation(self._aws, self._listing, clock)

    async def plan(self, offer: Offer) -> Plan:
        """Decide the parameters of the call, without the pools that rest."""
        if offer.deployment != self._deployment:
            message = f"deployment {offer.deployment!r} is not {self._deployment!r}"
            raise Rejected(message)
        try:
            plan = await self._planner.plan(offer)
        except Rejected as error:
            raise at_fault(error, offer.resources) from error
        # Under the name of earlier releases, which thus repeat this very call (`fleet.call_of`).
        return {**plan, "labels": dict(offer.tags)} if offer.tags else plan

    def vcpus_of(self, plan: Plan, resources: Resources) -> Mapping[str, int]:  # noqa: ARG002 - the port's
        """Return those of the plan's types."""
        vcpus: Mapping[str, int] = plan.get("vcpus", {})
        return vcpus

    async def highest_price_of(self, plan: Plan, resources: Resources) -> float | None:  # noqa: ARG002 - the port's
        """Return the highest price now among the pools of *plan*, with address and volume."""
        return await self._prices.highest_of(plan)

    async def price_offers(self) -> PricedOffers:
        """Read the types of the region, and their prices in the zones of the subnets."""
        return await self._offers.read()

    async def launch(self, batch: LaunchBatch) -> Sequence[Instance | ComputeError]:
        """Call CreateFleet once. Its instances go to the first requests, in their order."""
        if any(each.deployment != self._deployment for each in batch.requests):
            raise Rejected(f"a request is not for deployment {self._deployment!r}")
        return await self._launcher.launch(batch)

    async def terminate(self, instance_ids: Sequence[str]) -> None:
        """Cancel the Spot requests of these, so that none launches again, then end them."""
        await self._ender.terminate(instance_ids)

    async def describe(self, instance_ids: Sequence[str]) -> dict[str, Instance]:
        """Describe these; EC2 shows a terminated one for about an hour."""
        ids = [each for each in instance_ids if INSTANCE_ID.fullmatch(each) or is_request(each)]
        found = await self._prices.price(await self._listing.of(ids))
        return {each.instance_id: each for each in found}

    async def confirm(self, instance_ids: Sequence[str]) -> dict[str, Instance | NotFound]:
        """Ask for each by its id, then for its Spot request; NotFound is never final."""
        found = await self._confirmation.of(instance_ids)
        shown = [each for each in found.values() if not isinstance(each, NotFound)]
        priced = {each.instance_id: each for each in await self._prices.price(shown)}
        return {each: priced.get(each) or NotFound(final=False) for each in found}

    async def list_instances(self) -> Sequence[Instance]:
        """List all with the deployment's tag, and what its Spot requests have launched."""
        try:
            shown = await self._listing.all()
        except Throttled as error:
            raise Unknown(str(error)) from error
        self._listing.forget_all_but(
            each.instance_id for each in shown if each.state is not InstanceState.TERMINATED
        )
        return await self._prices.price(shown)

    async def console_output(self, instance_id: str) -> str | None:
        """Return the end of its console; EC2 has that of a terminated one for an hour."""
        return await console_output(self._aws, instance_id)

    async def close(self) -> None:
        """Do nothing: threads that still wait for AWS end with the process."""
