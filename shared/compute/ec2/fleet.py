"""One CreateFleet for a batch: what is asked, and what its answer says of each request.

The batch's token is the ClientToken, so that the identical call finds what the first one launched.
Which instance is whose is settled by order alone: the ids sorted, the requests in their places.
Instances that came are used, however many failed beside them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from shared.compute.ec2.errors import UNFIT, named
from shared.compute.ec2.pools import CapacityPool, say
from shared.compute.ec2.shapes import tags
from shared.compute.port import (
    ComputeError,
    Deferred,
    LaunchBatch,
    NoCapacity,
    Plan,
    QuotaReached,
    Rejected,
    Throttled,
    Unknown,
)
from shared.events.events import Market

# Which error of several is told, and decides what comes next: what holds for the whole account
# first, what cannot be helped only where nothing else is said.
GRAVITY: tuple[type[ComputeError], ...] = (
    *(QuotaReached, Throttled, Deferred, NoCapacity),
    *(Unknown, Rejected),
)


class FleetInstance(Struct, frozen=True, kw_only=True):
    """An instance as a fleet's answer tells of it."""

    instance_id: str
    instance_type: str
    zone: str


class LaunchFailure(Struct, frozen=True, kw_only=True):
    """A pool that did not give what it was asked for."""

    pool: CapacityPool
    code: str
    message: str


class FleetAnswer(Struct, frozen=True, kw_only=True):
    """A fleet's answer: both may be there at once."""

    came: tuple[FleetInstance, ...]
    failed: tuple[LaunchFailure, ...]


def call_of(batch: LaunchBatch) -> dict[str, Any]:
    """The parameters of CreateFleet for *batch*: the same every time."""
    plan = batch.plan
    market = "spot" if plan["market"] == "spot" else "on-demand"
    # Only a plan of an earlier release has labels. Its call may have had an effect, and EC2 finds
    # that again for a call with the same token and the same parameters alone.
    labels = plan.get("labels") or {}
    ours = tags(deployment=batch.requests[0].deployment, launch=batch.token, labels=labels)
    return {
        **plan["fleet"],
        "ClientToken": batch.token,
        "TargetCapacitySpecification": {
            "TotalTargetCapacity": len(batch.requests),
            "DefaultTargetCapacityType": market,
        },
        "TagSpecifications": [
            {"ResourceType": kind, "Tags": ours} for kind in ("instance", "volume", "fleet")
        ],
    }


def read_answer(shown: Mapping[str, Any], plan: Plan) -> FleetAnswer:
    """EC2's answer to the call for *plan*."""
    market: Market = "spot" if plan["market"] == "spot" else "on-demand"
    came = [
        FleetInstance(
            instance_id=instance_id,
            instance_type=each.get("InstanceType") or _override(each).get("InstanceType", ""),
            zone=_zone(each, plan),
        )
        for each in shown.get("Instances") or []
        for instance_id in each.get("InstanceIds") or []
    ]
    failed = [
        LaunchFailure(
            pool=CapacityPool(market, _override(each).get("InstanceType", ""), _zone(each, plan)),
            code=each.get("ErrorCode") or "",
            message=each.get("ErrorMessage") or "",
        )
        for each in shown.get("Errors") or []
    ]
    return FleetAnswer(came=tuple(came), failed=tuple(failed))


def shortfall(failed: Sequence[LaunchFailure], market: Market) -> ComputeError:
    """Why there are fewer instances than were asked for, in words."""
    errors = [_error(each) for each in failed]
    worst = next(
        (kind for kind in GRAVITY if any(isinstance(each, kind) for each in errors)), NoCapacity
    )
    words = "Spot" if market == "spot" else "on-demand"
    if worst is NoCapacity:
        without = [
            each.pool
            for each, error in zip(failed, errors, strict=True)
            if isinstance(error, NoCapacity)
        ]
        codes = sorted({each.code for each in failed})
        where = f" for {say(without)} ({', '.join(codes)})" if without else ""
        return NoCapacity(f"EC2 has no more {words} capacity now{where}")
    said = next(error for error in errors if isinstance(error, worst))
    return worst(str(said))


def _error(failed: LaunchFailure) -> ComputeError:
    if failed.code in UNFIT:
        return Rejected(f"{failed.code}: {failed.message}")
    # An answer of a fleet is definite, even where what it tells of is a server's error.
    error = named(failed.code, failed.message)
    return NoCapacity(str(error)) if isinstance(error, Unknown) else error


def _override(shown: Mapping[str, Any]) -> Mapping[str, Any]:
    override: Mapping[str, Any] = (shown.get("LaunchTemplateAndOverrides") or {}).get(
        "Overrides"
    ) or {}
    return override


def _zone(shown: Mapping[str, Any], plan: Plan) -> str:
    override = _override(shown)
    zones: Mapping[str, str] = plan["zones"]
    return override.get("AvailabilityZone") or zones.get(override.get("SubnetId", ""), "")
