"""RunInstances, with its client tokens."""

from typing import Any

from fake_aws.buckets import Limits
from fake_aws.errors import AwsError, dry_run, invalid, missing
from fake_aws.instance import OVER, Plan
from fake_aws.launching import Launching, new_id
from fake_aws.permissions import Permissions
from fake_aws.plans import Plans
from fake_aws.registry import Registry
from fake_aws.tokens import ClientTokens, terminated

Params = dict[str, Any]


class Runs:
    """The call and its client tokens."""

    def __init__(
        self,
        region: str,
        registry: Registry,
        launching: Launching,
        plans: Plans,
        limits: Limits,
        permissions: Permissions,
    ) -> None:
        self._region = region
        self._permissions = permissions
        self._registry = registry
        self._launching = launching
        self._plans = plans
        self._limits = limits
        self._tokens = ClientTokens()

    def run(self, params: Params) -> Params:
        """RunInstances: at least MinCount and at most MaxCount, or an error and none."""
        data, template = self._data(params)
        scope = self._scope(data)
        again = self._tokens.find(scope, params)
        if again is not None:
            if all(self._registry.one(each).state in OVER for each in again.instance_ids):
                raise terminated()
            return self._answer(again.answer["ReservationId"], again.instance_ids)
        least, most = _counts(params)
        options = data.get("InstanceMarketOptions") or {}
        plan = self._plans.plan(
            data,
            market="spot" if options.get("MarketType") == "spot" else "on-demand",
            specifications=params.get("TagSpecifications", []),
            token=params.get("ClientToken", ""),
        )
        self._permissions.check_launch(plan, "RunInstances", template)
        if params.get("DryRun"):
            raise dry_run()
        self._limits.instances("RunInstances", most)
        reservation = new_id("r")
        ids = self._launch(plan, reservation, least, most)
        answer = self._answer(reservation, ids)
        self._tokens.remember(scope, params, answer, ids)
        return answer

    def _data(self, params: Params) -> tuple[Params, str]:
        named = params.get("LaunchTemplate")
        if not named:
            return {**params, "TagSpecifications": []}, ""
        template, name = self._plans.template(named)
        data = {**template, **params, "TagSpecifications": template.get("TagSpecifications", [])}
        return data, self._permissions.template_arn(name["LaunchTemplateId"])

    def _scope(self, data: Params) -> str:
        placement = data.get("Placement") or {}
        if (
            data.get("SubnetId")
            or data.get("NetworkInterfaces")
            or placement.get("AvailabilityZone")
        ):
            return self._plans.subnet(data).zone
        return "region"

    def _launch(self, plan: Plan, reservation: str, least: int, most: int) -> tuple[str, ...]:
        room = self._launching.room(plan)
        if room is not None and room < least:
            most = least  # the pool then raises its own error
        ids: list[str] = []
        for _ in range(most):
            try:
                ids.append(self._launching.launch(plan, reservation).id)
            except AwsError:
                if len(ids) >= least:
                    break
                for each in ids:
                    self._launching.undo(self._registry.one(each))
                raise
        return tuple(ids)

    def _answer(self, reservation: str, ids: tuple[str, ...]) -> Params:
        shown = [self._registry.one(each).shown(self._region) for each in ids]
        return {"ReservationId": reservation, "Groups": [], "Instances": shown}


def _counts(params: Params) -> tuple[int, int]:
    least, most = params.get("MinCount"), params.get("MaxCount")
    if least is None or most is None:
        raise missing("MinCount and MaxCount")
    if not 1 <= least <= most:
        raise invalid(f"MinCount {least} and MaxCount {most} make no sense")
    return least, most
