"""Launching on EC2: one CreateFleet a batch, and the instances that it has launched.

What keeps "one launch, one instance for each request" true in each crash window:
- before CreateFleet: nothing has happened; a plan and a template's version cost nothing.
- after it, with the answer lost: the identical call has the same ClientToken, so it launches
  nothing more. EC2 promises that, and not that its answer lists the instances of the first one
  (https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html). So where fewer are
  listed than were asked for, or the call is now refused, the instances with the launch's tag are
  read, until all are visible or `VISIBLE` is over, and adopted.
- two replicas at once: the same, since both make the same call.
- an instance without a request (of a batch that was given up as spent while its instances were not
  visible yet) has the deployment's tag and no attempt: the API gives it no job, and the reaper ends
  it once the launcher's watermark has passed it.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec.structs import replace

from shared.backoff import Backoff
from shared.clock import Clock
from shared.compute.ec2 import fleet
from shared.compute.ec2.client import Aws
from shared.compute.ec2.errors import ENCODED, at_fault, is_unfit, may_be_unfit, proves_spent
from shared.compute.ec2.fleet import FleetAnswer, FleetInstance
from shared.compute.ec2.fleet_plans import with_charged
from shared.compute.ec2.listing import InstanceListing
from shared.compute.ec2.planner import Planner
from shared.compute.ec2.pools import RestingPools
from shared.compute.ec2.prices import Prices
from shared.compute.ec2.quota_errors import blamed_quota, explain_shortage, spent_quotas
from shared.compute.ec2.quotas import Quota
from shared.compute.ec2.shapes import DescribedInstance
from shared.compute.ec2.under_way import check_over
from shared.compute.port import (
    ComputeError,
    Deferred,
    Instance,
    InstanceState,
    LaunchBatch,
    Misconfigured,
    NoCapacity,
    Plan,
    Stale,
    Throttled,
    Unknown,
)
from shared.log import get_logger

_log = get_logger(part="ec2")

VISIBLE = Backoff(first=0.1, factor=1.7, longest=2)
VISIBLE_TRIES = 9
"""With `VISIBLE` about nine seconds; EC2 shows nearly every new instance within them."""


class FleetLauncher:
    """Launches the batches of one deployment."""

    def __init__(
        self,
        aws: Aws,
        clock: Clock,
        planner: Planner,
        listing: InstanceListing,
        prices: Prices,
        resting: RestingPools,
    ) -> None:
        self._aws = aws
        self._clock = clock
        self._planner = planner
        self._listing = listing
        self._prices = prices
        self._resting = resting

    async def launch(self, batch: LaunchBatch) -> Sequence[Instance | ComputeError]:
        """Call CreateFleet once. Its instances go to the first requests, in their order."""
        places = len(batch.requests)
        asked_at = self._clock.now()
        try:
            shown = await self._aws.call("CreateFleet", instances=places, **fleet.call_of(batch))
        except ComputeError as error:
            self._rest_quotas(blamed_quota(error, batch.plan))
            explained = explain_shortage(error, (), batch.plan, self._aws.region)
            spared = fleet.spared(explained, batch.plan.get("partial", ""))
            fault = at_fault(spared, batch.requests[0].resources)
            return await self._after_refusal(batch, fault)
        answer = await self._explained(fleet.read_answer(shown, batch.plan))
        self._learn(answer, batch.plan)
        instances: Sequence[Instance] = await self._read_new(batch, answer.launched, asked_at)
        short = self._shortfall(batch, answer)
        is_unexplained = batch.repeated or not answer.failed
        if len(instances) < places and is_unexplained:
            # An answer that lists some of a launch, and why the rest is missing, is complete; one
            # look makes sure.
            is_complete = bool(instances and answer.failed)
            instances = await self._adopt(batch, instances, patient=not is_complete)
            if not answer.failed:
                check_over(batch, len(instances), "EC2's answer has no error for the rest")
        return _in_places(instances, places, short)

    async def _explained(self, answer: FleetAnswer) -> FleetAnswer:
        """Decode the first encoded message of *answer*: it is the one that is shown."""
        for place, failed in enumerate(answer.failed):
            if ENCODED in failed.message:
                text = await self._aws.authorization.explain("CreateFleet", failed.message)
                first = replace(failed, message=text)
                return replace(
                    answer, failed=(*answer.failed[:place], first, *answer.failed[place + 1 :])
                )
        return answer

    def _shortfall(self, batch: LaunchBatch, answer: FleetAnswer) -> ComputeError:
        plan = batch.plan
        short = fleet.shortfall(answer.failed, plan["market"], plan.get("partial", ""))
        short = explain_shortage(short, answer.failed, plan, self._aws.region)
        if batch.repeated and isinstance(short, Throttled):
            # Of one pool, in an answer: definite, unlike a repeated call that is throttled.
            return Deferred(str(short))
        return at_fault(short, batch.requests[0].resources)

    async def _after_refusal(
        self, batch: LaunchBatch, error: ComputeError
    ) -> Sequence[Instance | ComputeError]:
        if isinstance(error, (Stale, Misconfigured)):
            self._planner.forget()  # what it knows of images and subnets may be what is wrong
        definite = not isinstance(error, (Unknown, Throttled))
        if definite and (batch.repeated or isinstance(error, Stale)):
            # The instances of an earlier call have the launch's tag, whatever the answer says now.
            instances = await self._adopt(batch, [], patient=batch.repeated)
            if batch.repeated and not proves_spent(error):
                check_over(batch, len(instances), str(error), error.change)
            return _in_places(instances, len(batch.requests), error)
        return [error] * len(batch.requests)

    async def _adopt(
        self, batch: LaunchBatch, listed: Sequence[Instance], *, patient: bool
    ) -> Sequence[Instance]:
        """Return *listed* and all others with the launch's tag.

        *patient*: look until all are visible, or `VISIBLE` is over; otherwise once. Raises
        `Unknown` if the last look fails: of the launch nothing is known then.
        """
        found: Sequence[DescribedInstance] = []
        looks = VISIBLE_TRIES if patient else 1
        for tries in range(1, looks + 1):
            try:
                found = await self._listing.launched_by(batch.token)
            except ComputeError as failure:
                may_pass = isinstance(failure, (Unknown, Throttled))
                if tries == looks or not may_pass:
                    unknown = Unknown(str(failure))
                    unknown.change = failure.change  # if the look is not allowed
                    raise unknown from failure
            if len(found) >= len(batch.requests) or tries == looks:
                break
            await asyncio.sleep(VISIBLE.delay(tries, 0))
        known = {each.instance_id for each in listed}
        others = [each for each in found if each.instance_id not in known]
        if not others:
            return listed
        _log.warning("adopted by tag", launch=batch.token, instances=len(others))
        adopted = await self._prices.price(_as_planned(others, batch.plan))
        return sorted([*listed, *adopted], key=lambda each: each.instance_id)

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
        shown = [
            seen.get(each.instance_id)
            or DescribedInstance(
                instance_id=each.instance_id,
                state=InstanceState.PENDING,
                launch_token=batch.token,
                launched_at=asked_at,
                instance_type=each.instance_type,
                zone=each.zone,
                market=batch.plan["market"],
            )
            for each in launched
        ]
        return await self._prices.price(_as_planned(shown, batch.plan))

    def _learn(self, answer: FleetAnswer, plan: Plan) -> None:
        """Let pools without capacity and spent quotas rest; forget what proves out of date.

        A pool whose template was removed, or that the deployment's settings forbid, does not rest:
        it is asked again as soon as there is a new template, or the fault is mended.
        """
        now = self._clock.now()
        self._rest_quotas(spent_quotas(answer.failed, plan))
        errors = [fleet.error_of_pool(each) for each in answer.failed]
        for failed, error in zip(answer.failed, errors, strict=True):
            unfit = is_unfit(failed.code, failed.message)
            no_fault = may_be_unfit(failed.code) and not isinstance(error, Misconfigured)
            if unfit or isinstance(error, NoCapacity) or no_fault:
                self._resting.rest(failed.pool, now, unfit=unfit, why=error)
        if any(isinstance(each, (Stale, Misconfigured)) for each in errors):
            self._planner.forget()

    def _rest_quotas(self, spent: Mapping[Quota, int]) -> None:
        for quota, vcpus in spent.items():
            self._resting.spend(quota, self._clock.now(), vcpus)


def _as_planned(shown: Sequence[DescribedInstance], plan: Plan) -> list[DescribedInstance]:
    """Return them in the order of their ids, with what EC2 may not show.

    A fleet of one plan has one market, where some emulators of EC2 name none.
    """
    known = [replace(with_charged(each, plan), market=plan["market"]) for each in shown]
    return sorted(known, key=lambda each: each.instance_id)


def _in_places(
    instances: Sequence[Instance], places: int, short: ComputeError
) -> list[Instance | ComputeError]:
    """Return an instance for each of the first *places*, and *short* for the rest."""
    found: list[Instance | ComputeError] = list(instances[:places])
    return found + [short] * (places - len(found))
