"""EC2's values as the port's, and back. Pure."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from shared.compute.port import Instance, InstanceState
from shared.events.costs import UNKNOWN_PRICES, OtherPrices
from shared.events.events import Market

DEPLOYMENT = "docker-job:deployment"
LAUNCH = "docker-job:launch"
"""The tags of our instances, volumes and Spot requests."""

STATES: dict[str, InstanceState] = {
    "pending": InstanceState.PENDING,
    "running": InstanceState.RUNNING,
    "shutting-down": InstanceState.STOPPING,
    "stopping": InstanceState.STOPPING,
    "stopped": InstanceState.STOPPED,
    "terminated": InstanceState.TERMINATED,
}

MINIMUM_BILLED_SECONDS = 60
"""Of Linux: https://aws.amazon.com/ec2/pricing/on-demand/. Of volumes and public addresses too:
https://aws.amazon.com/ebs/pricing/, https://aws.amazon.com/vpc/pricing/
"""

PLAIN = "Linux/UNIX"

# States of a Spot request that may still launch an instance.
OPEN_REQUESTS = ("open", "active")

INTERRUPTIONS = frozenset({"Server.SpotInstanceTermination", "Server.SpotInstanceShutdown"})
"""StateReason codes of an interrupted Spot instance.
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StateReason.html
"""

# "User initiated (2026-01-01 12:00:00 GMT)": the only place with the time of the end.
_ENDED = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:GMT|UTC)\)")


class DescribedInstance(Struct, frozen=True, kw_only=True):
    """An instance in EC2, or a Spot request that may still become one; without a price.

    EC2 shows the address of an instance while it runs, and never the size of its volume: None.
    """

    instance_id: str
    state: InstanceState
    launch_token: str
    launched_at: datetime
    instance_type: str
    zone: str
    market: Market
    spot_instance_request_id: str | None = None
    terminated_at: datetime | None = None
    state_reason: str = ""
    spot_interrupted: bool = False
    public_ipv4: bool | None = None
    volume_gib: int | None = None
    is_plain: bool = True
    """Whether it is what prices are read for: Linux without a licence, on shared hardware."""

    def priced(
        self,
        hourly_price_usd: float | None,
        on_demand_usd: float | None,
        other: OtherPrices = UNKNOWN_PRICES,
    ) -> Instance:
        """Return the port's instance, whose attempt EC2 does not know."""
        return Instance(
            instance_id=self.instance_id,
            state=self.state,
            launch_token=self.launch_token,
            launched_at=self.launched_at,
            instance_type=self.instance_type,
            zone=self.zone,
            market=self.market,
            hourly_price_usd=hourly_price_usd,
            on_demand_hourly_price_usd=on_demand_usd,
            minimum_billed_seconds=MINIMUM_BILLED_SECONDS,
            other_prices=other,
            spot_instance_request_id=self.spot_instance_request_id,
            terminated_at=self.terminated_at,
            state_reason=self.state_reason,
            spot_interrupted=self.spot_interrupted,
        )


def tags(*, deployment: str, launch: str, labels: Mapping[str, str]) -> list[dict[str, str]]:
    """Build the tags of an instance and its volume: ours override *labels*."""
    found = dict(labels) | {DEPLOYMENT: deployment, LAUNCH: launch}
    return [{"Key": key, "Value": value} for key, value in sorted(found.items())]


def filters(**named: Sequence[str]) -> list[dict[str, Any]]:
    """Build EC2's filters; `_` stands for `-` in a name."""
    return [
        {"Name": name.replace("_", "-"), "Values": list(values)} for name, values in named.items()
    ]


def tag_filter(key: str, value: str) -> dict[str, Any]:
    """Build the filter for a tag."""
    return {"Name": f"tag:{key}", "Values": [value]}


def read_instance(shown: Mapping[str, Any]) -> DescribedInstance:
    """Read an instance of DescribeInstances."""
    state = STATES.get(shown["State"]["Name"], InstanceState.PENDING)
    transition = shown.get("StateTransitionReason") or ""
    reason = shown.get("StateReason") or {}
    code = reason.get("Code") or ""
    ended = _ENDED.search(transition)
    terminated = state is InstanceState.TERMINATED
    return DescribedInstance(
        instance_id=shown["InstanceId"],
        state=state,
        launch_token=_tag(shown, LAUNCH),
        launched_at=shown["LaunchTime"].astimezone(UTC),
        instance_type=shown["InstanceType"],
        zone=shown["Placement"]["AvailabilityZone"],
        market="spot" if shown.get("InstanceLifecycle") == "spot" else "on-demand",
        spot_instance_request_id=shown.get("SpotInstanceRequestId") or None,
        terminated_at=_time(ended.group(1)) if ended and terminated else None,
        state_reason=code or transition,
        spot_interrupted=code in INTERRUPTIONS,
        public_ipv4=_has_address(shown, state),
        is_plain=_is_plain(shown),
    )


def _is_plain(shown: Mapping[str, Any]) -> bool:
    """Return whether EC2 bills it as `Linux/UNIX`; an emulator may not name the platform.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/billing-info-fields.html
    """
    tenancy = shown["Placement"].get("Tenancy") or "default"
    return (shown.get("PlatformDetails") or PLAIN) == PLAIN and tenancy == "default"


def _has_address(shown: Mapping[str, Any], state: InstanceState) -> bool | None:
    """Return whether it has a public IPv4 address; None: it may get one, or may have had one."""
    if shown.get("PublicIpAddress"):
        return True
    return False if state is InstanceState.RUNNING else None


def read_request(shown: Mapping[str, Any]) -> DescribedInstance:
    """Read a Spot request without an instance as an instance that is pending."""
    open_still = shown["State"] in OPEN_REQUESTS
    asked = shown.get("LaunchSpecification") or {}
    return DescribedInstance(
        instance_id=shown["SpotInstanceRequestId"],
        state=InstanceState.PENDING if open_still else InstanceState.TERMINATED,
        launch_token=_tag(shown, LAUNCH),
        launched_at=shown["CreateTime"].astimezone(UTC),
        instance_type=asked.get("InstanceType", ""),
        zone=shown.get("LaunchedAvailabilityZone") or "",
        market="spot",
        spot_instance_request_id=shown["SpotInstanceRequestId"],
        terminated_at=None if open_still else shown["CreateTime"].astimezone(UTC),
        state_reason=(shown.get("Status") or {}).get("Code", ""),
    )


def is_request(instance_id: str) -> bool:
    """Return True for the id of a Spot request."""
    return instance_id.startswith("sir-")


def _tag(shown: Mapping[str, Any], key: str) -> str:
    found = (each["Value"] for each in shown.get("Tags") or [] if each["Key"] == key)
    return next(found, "")


def _time(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
