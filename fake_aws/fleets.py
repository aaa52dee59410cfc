"""CreateFleet of type instant: launched instances and errors in one answer."""

import itertools
import re
import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from fake_aws.buckets import Limits
from fake_aws.errors import AwsError, invalid, missing
from fake_aws.instance import OVER, Plan
from fake_aws.launching import Launching, new_id
from fake_aws.permissions import Permissions
from fake_aws.plans import Plans, overridden
from fake_aws.pools import Pools
from fake_aws.prices import Prices
from fake_aws.registry import Registry
from fake_aws.settings import CloudSettings
from fake_aws.tag_rules import checked
from fake_aws.tokens import ClientTokens, terminated

Params = dict[str, Any]
TAGGABLE = {"fleet", "instance", "volume", "network-interface"}
MOST_OVERRIDES = 300
DECIMAL = re.compile(r"\d+(\.\d+)?")
LEAST_PRICE = 0.001
QUOTA_CODES = {"MaxSpotInstanceCountExceeded", "VcpuLimitExceeded", "InstanceLimitExceeded"}


class Offer(NamedTuple):
    """A pool that the call names: a plan, or the error that refuses it."""

    shown: Params
    """LaunchTemplateAndOverrides, as the answer repeats it."""
    plan: Plan | AwsError
    max_price: float | None
    priority: float


class Fleets:
    """The call and its client tokens."""

    def __init__(
        self,
        settings: CloudSettings,
        registry: Registry,
        launching: Launching,
        plans: Plans,
        pools: Pools,
        prices: Prices,
        limits: Limits,
        permissions: Permissions,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._launching = launching
        self._plans = plans
        self._pools = pools
        self._prices = prices
        self._limits = limits
        self._permissions = permissions
        self._tokens = ClientTokens()

    def create(self, params: Params) -> Params:
        """CreateFleet."""
        again = self._tokens.find("region", params)
        if again is not None:
            self._check_alive(again.instance_ids)
            busy = self._launching.under_way_until(params.get("ClientToken") or "") is not None
            if busy or not self._settings.fleet_token_lists_instances:
                return {**again.answer, "Instances": [], "Errors": []}
            return again.answer
        self._check(params)
        fleet = f"fleet-{uuid.uuid4()}"
        launched: list[Params] = []
        errors: list[Params] = []
        for market, count in _targets(params["TargetCapacitySpecification"]):
            offers = list(self._offers(params, fleet, market))
            come, failed = self._fill(offers, market, count, params)
            launched += come
            errors += failed
        answer = {"FleetId": fleet, "Instances": launched, "Errors": errors}
        ids = tuple(itertools.chain.from_iterable(each["InstanceIds"] for each in launched))
        self._tokens.remember("region", params, answer, ids)
        return answer

    def _check(self, params: Params) -> None:
        if params.get("Type") != "instant":
            raise AwsError("Unsupported", "This cloud's fleets are of type instant.")
        if "TotalTargetCapacity" not in params["TargetCapacitySpecification"]:
            raise missing("TargetCapacitySpecification.TotalTargetCapacity")
        options = (params.get("SpotOptions") or {}) | (params.get("OnDemandOptions") or {})
        for name in ("MinTargetCapacity", "SingleInstanceType", "SingleAvailabilityZone"):
            if options.get(name):
                raise AwsError("Unsupported", f"This cloud has no {name}.")
        for specification in params.get("TagSpecifications", ()):
            if specification.get("ResourceType") not in TAGGABLE:
                raise invalid(
                    f"'{specification.get('ResourceType')}' is not a valid taggable resource type "
                    "for this operation."
                )
            checked(specification.get("Tags", ()))
        count = sum(len(each.get("Overrides") or [{}]) for each in params["LaunchTemplateConfigs"])
        if count > MOST_OVERRIDES:
            raise AwsError(
                "InvalidLaunchTemplateConfig", f"More than {MOST_OVERRIDES} overrides: {count}"
            )

    def _check_alive(self, ids: tuple[str, ...]) -> None:
        if self._settings.fleet_token_outlives_instances or not ids:
            return
        if all(self._registry.one(each).state in OVER for each in ids):
            raise terminated()

    def _offers(self, params: Params, fleet: str, market: str) -> Iterator[Offer]:
        specifications = params.get("TagSpecifications", [])
        number = itertools.count()
        for config in params["LaunchTemplateConfigs"]:
            template, name = self._plans.template(config["LaunchTemplateSpecification"])
            for override in self._expanded(template, config.get("Overrides") or [{}]):
                shown = {"LaunchTemplateSpecification": name, "Overrides": override}
                price = _max_price(override.get("MaxPrice"))
                made: Plan | AwsError
                try:
                    made = self._plans.plan(
                        overridden(template, override),
                        market=market,
                        specifications=specifications,
                        token=f"{fleet}-{next(number)}",
                    )
                    arn = self._permissions.template_arn(name["LaunchTemplateId"])
                    self._permissions.check_launch(made, "CreateFleet", arn)
                    made.instance_tags.update(_aws_tags(fleet, name))
                except AwsError as error:
                    made = _in_a_fleet(error)
                yield Offer(
                    shown,
                    made,
                    price,
                    float(override.get("Priority") or 0),
                )

    def _expanded(self, template: Params, overrides: list[Params]) -> Iterator[Params]:
        for override in overrides:
            wanted = override.get("InstanceRequirements") or template.get("InstanceRequirements")
            if not wanted or override.get("InstanceType"):
                yield override
                continue
            rest = {key: each for key, each in override.items() if key != "InstanceRequirements"}
            for name in self._plans.matching_types(wanted):
                yield {**rest, "InstanceType": name}

    def _fill(
        self, offers: list[Offer], market: str, count: int, params: Params
    ) -> tuple[list[Params], list[Params]]:
        come: dict[int, list[str]] = {}
        failed: dict[int, AwsError] = {}
        reservation = new_id("r")
        left = count
        shown_from = self._launching.under_way_until(params.get("ClientToken") or "")
        for index in self._order(offers, market, count, params):
            if left == 0:
                break
            offer = offers[index]
            while left and index not in failed:
                try:
                    launched = self._launch(offer, market, reservation, shown_from)
                except AwsError as error:
                    failed[index] = error
                else:
                    come.setdefault(index, []).append(launched)
                    left -= 1
            if index in failed and self._ends(failed[index]):
                break
        instances = [
            {
                **_shown(offers[index], market),
                "InstanceIds": ids,
                "InstanceType": self._registry.one(ids[0]).plan.kind.name,
            }
            for index, ids in come.items()
        ]
        errors = [
            {
                **_shown(offers[index], market),
                "ErrorCode": error.code,
                "ErrorMessage": error.message,
            }
            for index, error in failed.items()
        ]
        return instances, errors

    def _ends(self, error: AwsError) -> bool:
        """Return whether a fleet tries no other pool after *error*."""
        ends = error.code in QUOTA_CODES and self._settings.quota_ends_fleet
        return ends or error.code == "RequestLimitExceeded"

    def _launch(
        self, offer: Offer, market: str, reservation: str, shown_from: datetime | None
    ) -> str:
        if isinstance(offer.plan, AwsError):
            raise offer.plan
        self._limits.instances("RunInstances", 1)
        return self._launching.launch(
            offer.plan,
            reservation,
            max_price=offer.max_price if market == "spot" else None,
            shown_from=shown_from,
        ).id

    def _order(self, offers: list[Offer], market: str, count: int, params: Params) -> list[int]:
        options = params.get("SpotOptions" if market == "spot" else "OnDemandOptions") or {}
        strategy = options.get("AllocationStrategy", "lowest-price")

        def worth(index: int) -> tuple[float, ...]:
            offer = offers[index]
            if isinstance(offer.plan, AwsError):
                return (2.0,)
            room = self._pools.room(offer.plan.pool)
            scarce = float(room is not None and room < count)
            price = self._prices.now(offer.plan)
            if "prioritized" in strategy:
                return (scarce if "capacity" in strategy else 0.0, offer.priority, price)
            if strategy == "lowest-price":
                return (0.0, price)
            return (scarce, -float(room or 0) if scarce else 0.0, price)

        order = sorted(range(len(offers)), key=worth)
        if self._settings.larger_types_first:
            order.sort(key=lambda index: -_vcpus(offers[index]))
        return order


def _vcpus(offer: Offer) -> int:
    return 0 if isinstance(offer.plan, AwsError) else offer.plan.kind.vcpus


def _targets(wanted: Params) -> list[tuple[str, int]]:
    total = wanted["TotalTargetCapacity"]
    on_demand = wanted.get("OnDemandTargetCapacity") or 0
    spot = wanted.get("SpotTargetCapacity") or 0
    rest = total - on_demand - spot
    if rest < 0:
        raise invalid("The target capacities add up to more than TotalTargetCapacity.")
    if wanted.get("DefaultTargetCapacityType") == "spot":
        spot += rest
    else:
        on_demand += rest
    return [(name, count) for name, count in (("on-demand", on_demand), ("spot", spot)) if count]


def _max_price(given: str | None) -> float | None:
    """Read MaxPrice: decimal text, and more than 0.001.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_FleetLaunchTemplateOverridesRequest.html
    """
    if not given:
        return None
    if not DECIMAL.fullmatch(given) or float(given) < LEAST_PRICE:
        raise invalid(f"Invalid value '{given}' for MaxPrice.")
    return float(given)


def _in_a_fleet(error: AwsError) -> AwsError:
    if error.code == "Unsupported":
        return AwsError("InvalidFleetConfiguration", error.message)
    return error


def _shown(offer: Offer, market: str) -> Params:
    return {"LaunchTemplateAndOverrides": offer.shown, "Lifecycle": market}


def _aws_tags(fleet: str, template: Params) -> dict[str, str]:
    return {
        "aws:ec2:fleet-id": fleet,
        "aws:ec2launchtemplate:id": template["LaunchTemplateId"],
        "aws:ec2launchtemplate:version": template["Version"],
    }
