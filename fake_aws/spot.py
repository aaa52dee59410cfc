"""Spot requests: one for every Spot instance, with a state of its own.

A one-time request ends with its instance. A persistent one launches again when its instance was
stopped or interrupted, without the tags of the first. Cancelling a request leaves its instance
running.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fake_aws.errors import not_found
from fake_aws.filters import paginate, select
from fake_aws.instance import Plan
from fake_aws.settings import CloudSettings

Params = dict[str, Any]
OPEN = {"open", "active"}
FULFILLED = "Your Spot request is fulfilled."


@dataclass(kw_only=True)
class SpotRequest:
    """One request. *state* is open, active, closed, cancelled or disabled."""

    id: str
    plan: Plan
    made_at: datetime
    visible_at: datetime
    tags: dict[str, str] = field(default_factory=dict)
    persistent: bool = False
    instance_id: str | None = None
    state: str = "active"
    status: str = "fulfilled"
    message: str = FULFILLED
    status_at: datetime | None = None
    """Of the last change of the status; None: since the request was made."""

    def become(self, status: str, message: str) -> None:
        """Change the status."""
        self.status, self.message, self.status_at = status, message, datetime.now(UTC)

    @property
    def kind(self) -> str:
        """EC2's name of the type."""
        return "persistent" if self.persistent else "one-time"

    def shown(self) -> Params:
        """Return the request in the form of DescribeSpotInstanceRequests."""
        shown: Params = {
            "SpotInstanceRequestId": self.id,
            "Type": self.kind,
            "State": self.state,
            "Status": {
                "Code": self.status,
                "Message": self.message,
                "UpdateTime": self.status_at or self.made_at,
            },
            "CreateTime": self.made_at,
            "InstanceId": self.instance_id,
            "LaunchedAvailabilityZone": self.plan.subnet.zone,
            "ProductDescription": "Linux/UNIX",
            "LaunchSpecification": {
                "ImageId": self.plan.image.id,
                "InstanceType": self.plan.kind.name,
                "SubnetId": self.plan.subnet.id,
            },
            "Tags": [{"Key": key, "Value": value} for key, value in self.tags.items()],
            "InstanceInterruptionBehavior": "stop" if self.persistent else "terminate",
        }
        return shown


FILTERS: dict[str, Callable[[SpotRequest], str | None]] = {
    "spot-instance-request-id": lambda it: it.id,
    "state": lambda it: it.state,
    "status-code": lambda it: it.status,
    "instance-id": lambda it: it.instance_id,
    "type": lambda it: it.kind,
    "launched-availability-zone": lambda it: it.plan.subnet.zone,
    "launch.instance-type": lambda it: it.plan.kind.name,
}
"""The filters of DescribeSpotInstanceRequests."""


class SpotRequests:
    """All Spot requests of the account, and the calls on them."""

    def __init__(self, settings: CloudSettings) -> None:
        self._settings = settings
        self.by_id: dict[str, SpotRequest] = {}

    def open(self, plan: Plan, now: datetime, visible_at: datetime) -> SpotRequest:
        """Open a request for *plan*, fulfilled by the instance that is launched now."""
        request = SpotRequest(
            id=f"sir-{secrets.token_hex(4)}",
            plan=plan,
            made_at=now,
            visible_at=visible_at,
            tags=dict(plan.request_tags),
            persistent=plan.persistent,
        )
        self.by_id[request.id] = request
        return request

    def on_end(self, request_id: str | None, status: str, message: str) -> SpotRequest | None:
        """Record the end of its instance; return the request if it launches again."""
        request = self.by_id.get(request_id or "")
        if request is None:
            return None
        stays = self._settings.cancelled_status_stays and request.state == "cancelled"
        if request.status != status and not stays:
            request.become(status, message)
        if request.state in OPEN:
            request.state = "open" if request.persistent else "closed"
        return request if request.state == "open" else None

    def on_notice(self, request_id: str | None, status: str, message: str) -> None:
        """Set the status of the end with the notice, while the instance runs on for two minutes.

        https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instances-request-status-lifecycle.html
        has it in a footnote.
        """
        request = self.by_id.get(request_id or "")
        if request is not None and not request.persistent:
            request.become(status, message)
            request.state = "closed" if request.state in OPEN else request.state

    def hide(self, request_id: str | None) -> None:
        """Show the request no more."""
        if request_id in self.by_id:
            self.by_id[request_id].visible_at = datetime.max.replace(tzinfo=UTC)

    def describe(self, params: Params) -> Params:
        """DescribeSpotInstanceRequests."""
        now = datetime.now(UTC)
        ids = params.get("SpotInstanceRequestIds")
        found = self._named(ids, now) if ids else self._visible(now)
        found = select(found, params, FILTERS, lambda each: each.tags)
        page, token = paginate([each.shown() for each in found], params, least=5)
        return {"SpotInstanceRequests": page, "NextToken": token}

    def cancel(self, params: Params) -> Params:
        """CancelSpotInstanceRequests: cancel all of them, or none if one is unknown."""
        now = datetime.now(UTC)
        found = self._named(params["SpotInstanceRequestIds"], now)
        for request in found:
            if request.state in OPEN:
                running = request.state == "active"
                request.state = "cancelled"
                kept = "request-canceled-and-instance-running"
                status = kept if running else "canceled-before-fulfillment"
                request.become(status, "Your Spot request is canceled.")
        return {
            "CancelledSpotInstanceRequests": [
                {"SpotInstanceRequestId": each.id, "State": each.state} for each in found
            ]
        }

    def _visible(self, now: datetime) -> list[SpotRequest]:
        return [each for each in self.by_id.values() if each.visible_at <= now]

    def _named(self, ids: list[str], now: datetime) -> list[SpotRequest]:
        known = {each.id: each for each in self._visible(now)}
        unknown = [each for each in ids if each not in known]
        if unknown:
            raise not_found("InvalidSpotInstanceRequestID", unknown)
        return [known[each] for each in ids]
