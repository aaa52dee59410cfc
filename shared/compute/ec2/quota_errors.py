"""Errors of a quota of vCPUs: which one it is, and whether another family is left to be tried.

EC2 names neither the quota nor its limit on Spot: "Max spot instance count exceeded". It does not
say either whether a fleet tries the other families after such an error: both are handled.
"""

from collections.abc import Iterable, Sequence

from shared.compute.ec2.fleet import LaunchFailure
from shared.compute.ec2.pools import CapacityPool
from shared.compute.ec2.quotas import Quota, explain_all, quota_of
from shared.compute.port import ComputeError, Plan, QuotaReached, Stale
from shared.events.events import Market

VCPU_CODES = frozenset({"MaxSpotInstanceCountExceeded", "VcpuLimitExceeded"})
"""https://docs.aws.amazon.com/ec2/latest/devguide/errors-overview.html"""


def blamed_quota(error: ComputeError, plan: Plan) -> set[Quota]:
    """Return one quota of a plan that was refused as a whole for a quota.

    Which one it was EC2 does not tell. Without it the next plan asks for the others alone.
    """
    if not isinstance(error, QuotaReached) or not _is_of_vcpus(error, ()):
        return set()
    return set(sorted(_quotas(plan))[:1])


def spent_quotas(failed: Iterable[LaunchFailure]) -> set[Quota]:
    """Return the quotas that a fleet's errors show to be used up."""
    found = (
        quota_of(each.pool.instance_type, each.pool.market)
        for each in failed
        if each.code in VCPU_CODES
    )
    return {each for each in found if each is not None}


def explain_shortage(
    error: ComputeError, failed: Sequence[LaunchFailure], plan: Plan, region: str
) -> ComputeError:
    """Add the quota to *error*, a fleet's answer; `Stale` if the next plan has another family.

    The quotas that are used up then rest, so the next plan leaves them out. Nothing in *failed*:
    the call was refused as a whole.
    """
    if not isinstance(error, QuotaReached) or not _is_of_vcpus(error, failed):
        return error
    spent = spent_quotas(failed) or blamed_quota(error, plan)
    named = spent if failed else _quotas(plan)
    text = f"{error}: {explain_all(named, region)}" if named else str(error)
    refused = {each.pool for each in failed}
    is_left = any(each not in refused and _quota(each) not in spent for each in _pools(plan))
    return Stale(f"{text}; trying the other families") if is_left else QuotaReached(text)


def _is_of_vcpus(error: ComputeError, failed: Sequence[LaunchFailure]) -> bool:
    codes = {each.code for each in failed} or {str(error).partition(":")[0]}
    return bool(codes & VCPU_CODES)


def _quota(pool: CapacityPool) -> Quota | None:
    return quota_of(pool.instance_type, pool.market)


def _quotas(plan: Plan) -> set[Quota]:
    found = (_quota(each) for each in _pools(plan))
    return {each for each in found if each is not None}


def _pools(plan: Plan) -> list[CapacityPool]:
    market: Market = "spot" if plan["market"] == "spot" else "on-demand"
    return [
        CapacityPool(market, each["InstanceType"], plan["zones"].get(each["SubnetId"], ""))
        for config in plan["fleet"]["LaunchTemplateConfigs"]
        for each in config["Overrides"]
    ]
