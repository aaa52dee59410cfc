"""One CreateFleet for a batch: its parameters, and the outcome of each request.

The batch's token is the ClientToken, so that the identical call finds what the first one launched.
Instances are assigned by order alone: the ids sorted, the requests in their places. The instances
of an answer are used, however many others failed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from shared.compute.ec2.errors import UNFIT, named
from shared.compute.ec2.pools import CapacityPool, summarize
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

# The order in which one of several errors is reported, and decides what comes next: errors of the
# whole account first, final ones only if there is no other.
GRAVITY: tuple[type[ComputeError], ...] = (
    *(QuotaReached, Throttled, Deferred, NoCapacity),
    *(Unknown, Rejected),
)


class FleetInstance(Struct, frozen=True, kw_only=True):
    """An instance in a fleet's answer."""

    instance_id: str
    instance_type: str
    zone: str


class LaunchFailure(Struct, frozen=True, kw_only=True):
    """A pool that launched fewer instances than requested."""

    pool: CapacityPool
    code: str
    message: str


class FleetAnswer(Struct, frozen=True, kw_only=True):
    """A fleet's answer: it may have instances and failures at once."""

    launched: tuple[FleetInstance, ...]
    failed: tuple[LaunchFailure, ...]


def call_of(batch: LaunchBatch) -> dict[str, Any]:
    """Build the parameters of CreateFleet for *batch*: the same every time."""
    plan = batch.plan
    market = "spot" if plan["market"] == "spot" else "on-demand"
    # Cost tags, or all labels in a plan of an early release. Its call may have had an effect, which
    # EC2 finds again only for the same token and the same parameters.
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
    """Read EC2's answer to the call for *plan*."""
    market: Market = "spot" if plan["market"] == "spot" else "on-demand"
    launched = [
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
    return FleetAnswer(launched=tuple(launched), failed=tuple(failed))


def shortfall(failed: Sequence[LaunchFailure], market: Market) -> ComputeError:
    """Return the reason why there are fewer instances than requested, with its message."""
    errors = [_error(each) for each in failed]
    worst = next(
        (kind for kind in GRAVITY if any(isinstance(each, kind) for each in errors)), NoCapacity
    )
    named_market = "Spot" if market == "spot" else "on-demand"
    if worst is NoCapacity:
        without = [
            each.pool
            for each, error in zip(failed, errors, strict=True)
            if isinstance(error, NoCapacity)
        ]
        codes = sorted({each.code for each in failed})
        where = f" for {summarize(without)} ({', '.join(codes)})" if without else ""
        return NoCapacity(f"EC2 has no more {named_market} capacity now{where}")
    first = next(error for error in errors if isinstance(error, worst))
    return worst(str(first))


def _error(failed: LaunchFailure) -> ComputeError:
    if failed.code in UNFIT:
        return Rejected(f"{failed.code}: {failed.message}")
    # An answer of a fleet is definite, even if it reports a server error.
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
