"""The calls that read instances: DescribeInstances, DescribeInstanceStatus, GetConsoleOutput."""

import base64
from datetime import UTC, datetime
from typing import Any

from fake_aws.errors import AwsError, combination
from fake_aws.filters import paginate, select
from fake_aws.instance import FILTERS, Instance, State
from fake_aws.registry import Registry

Params = dict[str, Any]
FEWEST_A_PAGE = 5
MOST_CONSOLE = 64 * 1024


class InstanceQueries:
    """The calls that only read instances."""

    def __init__(self, registry: Registry, region: str) -> None:
        self._registry = registry
        self._region = region

    def describe(self, params: Params) -> Params:
        """DescribeInstances."""
        if params.get("InstanceIds") and "MaxResults" in params:
            raise combination(
                "The parameter instancesSet cannot be used with the parameter maxResults"
            )
        page, token = paginate(self._found(params), params, least=FEWEST_A_PAGE)
        reservations: dict[str, Params] = {}
        for each in page:
            group = reservations.setdefault(each.reservation, _reservation(each))
            group["Instances"].append(each.shown(self._region))
        return {"Reservations": list(reservations.values()), "NextToken": token}

    def status(self, params: Params) -> Params:
        """DescribeInstanceStatus: running instances, unless all are requested."""
        found = self._found(params)
        if not params.get("IncludeAllInstances"):
            found = [each for each in found if each.state is State.RUNNING]
        page, token = paginate([_status(each) for each in found], params, least=FEWEST_A_PAGE)
        return {"InstanceStatuses": page, "NextToken": token}

    def console(self, params: Params) -> Params:
        """GetConsoleOutput: what was posted, or the latest output of a Nitro type; 64 KB of it.

        https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_GetConsoleOutput.html
        """
        [instance] = self._registry.named([params["InstanceId"]])
        latest = params.get("Latest", False)
        if latest and not instance.plan.kind.nitro:
            raise AwsError(
                "UnsupportedOperation",
                "This instance does not support retrieving the latest console logs. Please try "
                "your request without retrieving the latest console logs.",
            )
        # Nothing documents the latest output of a terminated instance: here it has none.
        text = instance.posted
        if latest:
            text = "" if instance.state is State.TERMINATED else instance.console
        shown: Params = {"InstanceId": instance.id, "Timestamp": datetime.now(UTC)}
        raw = text.encode()[-MOST_CONSOLE:]
        return shown | ({"Output": base64.b64encode(raw).decode()} if raw else {})

    def _found(self, params: Params) -> list[Instance]:
        ids = params.get("InstanceIds")
        found = self._registry.named(ids) if ids else self._registry.visible()
        now = datetime.now(UTC)
        return select(found, params, FILTERS, lambda each: each.tags_at(now))


def _reservation(instance: Instance) -> Params:
    return {
        "ReservationId": instance.reservation,
        "OwnerId": instance.owner,
        "Groups": [],
        "Instances": [],
    }


def _status(instance: Instance) -> Params:
    return {
        "InstanceId": instance.id,
        "AvailabilityZone": instance.plan.subnet.zone,
        "InstanceState": instance.state.shown(),
        "InstanceStatus": {"Status": "ok", "Details": []},
        "SystemStatus": {"Status": "ok", "Details": []},
        "Events": [],
    }
