"""One CreateFleet for a batch: its parameters, and the outcome of each request.

The batch's token is the ClientToken, so that the identical call finds what the first one launched.
Instances are assigned by order alone: the ids sorted, the requests in their places. The instances
of an answer are used, however many others failed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from shared.compute.ec2.error_rules import PARAMETERS
from shared.compute.ec2.errors import is_unfit, may_be_unfit, named, recast
from shared.compute.ec2.own_shortage import own_shortage
from shared.compute.ec2.pools import CapacityPool, summarize
from shared.compute.ec2.shapes import tags
from shared.compute.port import (
    ComputeError,
    Deferred,
    LaunchBatch,
    Misconfigured,
    NoCapacity,
    Plan,
    QuotaReached,
    Rejected,
    Stale,
    Throttled,
    Unknown,
)
from shared.events.events import Market

# The order in which one of several errors is reported, and decides what comes next: a template that
# was removed first, since a new plan follows at once; then errors of the whole account; final ones
# only if there is no other. A lack of capacity comes before the deployment's fault: it is what the
# pools without that fault answer.
GRAVITY: tuple[type[ComputeError], ...] = (
    *(Stale, QuotaReached, Throttled, Deferred, NoCapacity),
    *(Misconfigured, Unknown, Rejected),
)


SHORT = (NoCapacity, QuotaReached, Deferred)


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


def shortfall(failed: Sequence[LaunchFailure], market: Market, partial: str = "") -> ComputeError:
    """Return the reason why there are fewer instances than requested, with its message.

    *partial*: the plan's, of a batch.
    """
    errors = [error_of_pool(each) for each in failed]
    worst = next(
        (kind for kind in GRAVITY if any(isinstance(each, kind) for each in errors)), NoCapacity
    )
    ours = next((each for each in errors if isinstance(each, Misconfigured)), None)
    if worst is Misconfigured and ours is not None:
        return ours
    if worst is NoCapacity:
        error: ComputeError = _without_capacity(failed, errors, market)
    else:
        error = recast(worst, next(each for each in errors if isinstance(each, worst)))
    if ours is not None:
        mixed = worst(f"{error}; of other pools: {ours}")
        mixed.change = ours.change
        error = mixed
    error.in_part = any(isinstance(each, SHORT) and not each.change for each in errors)
    return spared(error, partial)


def spared(error: ComputeError, partial: str) -> ComputeError:
    """Return *error*, but not as final for a *partial* plan: what it left out may do.

    Such as pools that rest for lack of capacity, while the few that are left do not exist.
    """
    if isinstance(error, Rejected) and partial:
        return NoCapacity(f"{error}; {partial}")
    return error


def error_of_pool(failed: LaunchFailure) -> ComputeError:
    """Return the port's error for one pool. An answer of a fleet is definite, also a 5xx in it."""
    if is_unfit(failed.code, failed.message):
        return Rejected(f"{failed.code}: {failed.message}")
    error = named(failed.code, failed.message)
    if isinstance(error, Unknown):
        return recast(NoCapacity, error)
    if may_be_unfit(failed.code) and error.change in {"", PARAMETERS}:
        return Deferred(f"{failed.code}: {failed.message}")
    return error


def _without_capacity(
    failed: Sequence[LaunchFailure], errors: Sequence[ComputeError], market: Market
) -> NoCapacity:
    without = [
        each for each, error in zip(failed, errors, strict=True) if isinstance(error, NoCapacity)
    ]
    codes = sorted({each.code for each in without})
    where = f" for {summarize(each.pool for each in without)}" if without else ""
    short = [each for each in errors if isinstance(each, NoCapacity)]
    own = own_shortage(short, f"{'on Spot' if market == 'spot' else 'on demand'}{where}")
    name = "Spot" if market == "spot" else "on-demand"
    text = f"EC2 has no more {name} capacity now{where}"
    return own or NoCapacity(f"{text} ({', '.join(codes)})" if without else text)


def _override(shown: Mapping[str, Any]) -> Mapping[str, Any]:
    override: Mapping[str, Any] = (shown.get("LaunchTemplateAndOverrides") or {}).get(
        "Overrides"
    ) or {}
    return override


def _zone(shown: Mapping[str, Any], plan: Plan) -> str:
    override = _override(shown)
    zones: Mapping[str, str] = plan["zones"]
    return override.get("AvailabilityZone") or zones.get(override.get("SubnetId", ""), "")
