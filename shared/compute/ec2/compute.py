"""The compute port on EC2.

What keeps "one launch, one instance for each request" true in each crash window:
- before CreateFleet: nothing has happened; a plan and a template's version cost nothing.
- after it, with the answer lost: the identical call has the same ClientToken, and EC2 answers with
  the instances of the first one. If it answers that the token is spent, or now refuses the call for
  another reason, the instances with the launch's tag are read and adopted.
- two replicas at once: the same, since both make the same call.
- an instance without a request (of a batch that was given up as spent while its instances were not
  visible yet) has the deployment's tag and no attempt: the API gives it no job, and the reaper ends
  it once the launcher's watermark has passed it.
"""

import asyncio
import re
from collections.abc import Sequence
from datetime import datetime

from shared.backoff import Backoff
from shared.clock import Clock
from shared.compute.ec2 import fleet
from shared.compute.ec2.client import Aws
from shared.compute.ec2.console import console_output
from shared.compute.ec2.errors import UNFIT, code_of
from shared.compute.ec2.fleet import FleetAnswer, FleetInstance
from shared.compute.ec2.listing import InstanceListing
from shared.compute.ec2.offers import OfferReader
from shared.compute.ec2.planner import Planner
from shared.compute.ec2.pools import RestingPools
from shared.compute.ec2.prices import Prices
from shared.compute.ec2.settings import Ec2Settings
from shared.compute.ec2.shapes import DescribedInstance, is_request
from shared.compute.port import (
    ComputeError,
    Instance,
    InstanceState,
    LaunchBatch,
    NoCapacity,
    Offer,
    Plan,
    PricedOffers,
    Rejected,
    Stale,
    Throttled,
    Unknown,
)
from shared.log import get_logger

_log = get_logger(part="ec2")

VISIBLE = Backoff(first=0.1, factor=1.7, longest=2)
VISIBLE_TRIES = 9
"""With `VISIBLE` about nine seconds; EC2 shows nearly every new instance within them."""

MOST_IDS = 500
"""Instances in one TerminateInstances call."""

NOT_FOUND = frozenset({"InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed"})
NO_REQUEST = frozenset(
    {"InvalidSpotInstanceRequestID.NotFound", "InvalidSpotInstanceRequestID.Malformed"}
)
_ID = re.compile(r"i-[0-9a-f]{8,17}")


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
        self._clock = clock
        self._aws = Aws(region)
        self._resting = RestingPools(settings.pool_rest_seconds)
        self._planner = Planner(self._aws, clock, settings, self._resting, deployment, agent_sha256)
        self._listing = InstanceListing(self._aws, deployment)
        self._prices = Prices(self._aws, clock, settings.prices)
        self._offers = OfferReader(self._aws, clock, settings, self._planner.zones)

    async def plan(self, offer: Offer) -> Plan:
        """Decide the parameters of the call, without the pools that rest."""
        if offer.deployment != self._deployment:
            message = f"deployment {offer.deployment!r} is not {self._deployment!r}"
            raise Rejected(message)
        return await self._planner.plan(offer)

    async def price_offers(self) -> PricedOffers:
        """Read the types of the region, and their prices in the zones of the subnets."""
        return await self._offers.read()

    async def launch(self, batch: LaunchBatch) -> Sequence[Instance | ComputeError]:
        """Call CreateFleet once. Its instances go to the first requests, in their order."""
        if any(each.deployment != self._deployment for each in batch.requests):
            raise Rejected(f"a request is not for deployment {self._deployment!r}")
        asked_at = self._clock.now()
        try:
            shown = await self._aws.call(
                "CreateFleet", instances=len(batch.requests), **fleet.call_of(batch)
            )
        except ComputeError as error:
            return await self._after_refusal(batch, error)
        answer = fleet.read_answer(shown, batch.plan)
        self._rest_pools(answer)
        instances = await self._read_new(batch, answer.launched, asked_at)
        short: ComputeError = NoCapacity("")
        if len(instances) < len(batch.requests):
            short = fleet.shortfall(answer.failed, batch.plan["market"])
        return _in_places(instances, len(batch.requests), short)

    async def terminate(self, instance_ids: Sequence[str]) -> None:
        """Cancel the Spot requests of these, so that none launches again, then end them."""
        ids = [each for each in instance_ids if _ID.fullmatch(each)]
        requests = [each for each in instance_ids if is_request(each)]
        failure = await self._cancel([*requests, *await self._requests_of(ids)])
        for start in range(0, len(ids), MOST_IDS):
            await self._terminate(ids[start : start + MOST_IDS])
        if failure is not None:
            raise failure

    async def describe(self, instance_ids: Sequence[str]) -> dict[str, Instance]:
        """Describe these; EC2 shows a terminated one for about an hour."""
        ids = [each for each in instance_ids if _ID.fullmatch(each) or is_request(each)]
        found = await self._prices.price(await self._listing.of(ids))
        return {each.instance_id: each for each in found}

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

    # --- launching -------------------------------------------------------------------------------

    async def _after_refusal(
        self, batch: LaunchBatch, error: ComputeError
    ) -> Sequence[Instance | ComputeError]:
        if isinstance(error, Stale):
            self._planner.forget()
        definite = not isinstance(error, (Unknown, Throttled))
        if definite and (batch.repeated or isinstance(error, Stale)):
            # The instances of an earlier call have the launch's tag, whatever the answer says now.
            try:
                found = await self._listing.launched_by(batch.token)
            except ComputeError as failure:
                # This error is about the read: of the launch nothing is known.
                raise Unknown(str(failure)) from failure
            if found:
                _log.warning("adopted by tag", launch=batch.token, instances=len(found))
            instances = await self._prices.price(_sorted(found))
            return _in_places(instances, len(batch.requests), error)
        return [error] * len(batch.requests)

    async def _read_new(
        self, batch: LaunchBatch, launched: Sequence[FleetInstance], asked_at: datetime
    ) -> list[Instance]:
        """Read the new instances; those that EC2 does not show in time are as in its answer."""
        seen: dict[str, DescribedInstance] = {}
        for tries in range(1, VISIBLE_TRIES + 1):
            missing = [each.instance_id for each in launched if each.instance_id not in seen]
            if not missing:
                break
            if tries > 1:
                await asyncio.sleep(VISIBLE.delay(tries - 1, 0))
            try:
                found = await self._listing.of(missing)
            except ComputeError as error:
                _log.warning("cannot read new instances", error=str(error))
                continue
            seen |= {each.instance_id: each for each in found}
        market = "spot" if batch.plan["market"] == "spot" else "on-demand"
        shown = [
            seen.get(each.instance_id)
            or DescribedInstance(
                instance_id=each.instance_id,
                state=InstanceState.PENDING,
                launch_token=batch.token,
                launched_at=asked_at,
                instance_type=each.instance_type,
                zone=each.zone,
                market="spot" if market == "spot" else "on-demand",
            )
            for each in launched
        ]
        return await self._prices.price(_sorted(shown))

    def _rest_pools(self, answer: FleetAnswer) -> None:
        now = self._clock.now()
        for each in answer.failed:
            unfit = each.code in UNFIT
            if unfit or isinstance(fleet.shortfall([each], each.pool.market), NoCapacity):
                self._resting.rest(each.pool, now, unfit=unfit)

    # --- ending ----------------------------------------------------------------------------------

    async def _requests_of(self, ids: Sequence[str]) -> list[str]:
        known = self._listing.requests
        unknown = [each for each in ids if each not in known]
        if unknown:
            await self._listing.of(unknown)
        known = self._listing.requests
        return [known[each] for each in ids if each in known]

    async def _cancel(self, requests: Sequence[str]) -> ComputeError | None:
        """Cancel these; return a failure, since ending the instances must not wait for it."""
        if not requests:
            return None
        try:
            await self._aws.call(
                "CancelSpotInstanceRequests", SpotInstanceRequestIds=sorted(set(requests))
            )
        except Rejected as error:
            if not _code_in(error, NO_REQUEST):
                return error
            # One that EC2 does not know any more fails them all.
            if len(requests) == 1:
                _log.info("Spot request does not exist any more", error=str(error))
                return None
            failures = [await self._cancel([each]) for each in requests]
            return next((each for each in failures if each is not None), None)
        except ComputeError as error:
            return error
        return None

    async def _terminate(self, ids: Sequence[str]) -> None:
        """End *ids*; one that EC2 does not know would fail the whole call, so it is left out."""
        if not ids:
            return
        try:
            await self._aws.call("TerminateInstances", instances=len(ids), InstanceIds=list(ids))
        except Rejected as error:
            if not _code_in(error, NOT_FOUND):
                raise
            if len(ids) == 1:
                return  # not visible now, or terminated: `describe` shows which
            named = set(_ID.findall(str(error)))
            rest = [each for each in ids if each not in named]
            if named & set(ids):
                await self._terminate(rest)
            else:
                half = len(ids) // 2
                await self._terminate(ids[:half])
                await self._terminate(ids[half:])


def _code_in(error: ComputeError, codes: frozenset[str]) -> bool:
    cause = error.__cause__
    return isinstance(cause, Exception) and code_of(cause) in codes


def _sorted(shown: Sequence[DescribedInstance]) -> list[DescribedInstance]:
    return sorted(shown, key=lambda each: each.instance_id)


def _in_places(
    instances: Sequence[Instance], places: int, short: ComputeError
) -> list[Instance | ComputeError]:
    """Return an instance for each of the first *places*, and *short* for the rest."""
    found: list[Instance | ComputeError] = list(instances[:places])
    return found + [short] * (places - len(found))
