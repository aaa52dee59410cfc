"""Errors of a quota of vCPUs: which one it is, and whether other types are left to be tried.

EC2 names neither the quota nor its limit on Spot: "Max spot instance count exceeded". It does not
say either whether a fleet tries the other families after such an error: both are handled.
"""

from collections.abc import Iterable, Mapping, Sequence

from shared.compute.ec2.fleet import LaunchFailure
from shared.compute.ec2.pools import CapacityPool
from shared.compute.ec2.quotas import Quota, explain_all, quota_of
from shared.compute.port import ComputeError, Plan, QuotaReached, Stale
from shared.events.events import Market

VCPU_CODES = frozenset(
    {"MaxSpotInstanceCountExceeded", "VcpuLimitExceeded", "InstanceLimitExceeded"}
)
"""https://docs.aws.amazon.com/ec2/latest/devguide/errors-overview.html; the last one, "Your quota
allows for 0 more running instance(s)", is what a new or restricted account answers:
https://github.com/hashicorp/terraform/issues/1891
"""


def blamed_quota(error: ComputeError, plan: Plan) -> dict[Quota, int]:
    """Return one quota of a plan that was refused as a whole for a quota, and the vCPUs refused.

    EC2 names neither the quota nor the type: the largest is taken for it. Without
    the quota, or that type, the next plan asks for the others alone.
    """
    if not isinstance(error, QuotaReached) or not _is_of_vcpus(error):
        return {}
    return dict(sorted(_quotas(plan).items())[:1])


def spent_quotas(failed: Iterable[LaunchFailure], plan: Plan) -> dict[Quota, int]:
    """Return the quotas of a fleet's errors, and the fewest vCPUs that each had no room for.

    0: a plan of an earlier release does not have them.
    """
    found: dict[Quota, int] = {}
    for each in failed:
        quota = _quota(each.pool)
        if each.code in VCPU_CODES and quota is not None:
            vcpus = _vcpus(each.pool, plan)
            found[quota] = min(found.get(quota, vcpus), vcpus)
    return found


def explain_shortage(
    error: ComputeError, failed: Sequence[LaunchFailure], plan: Plan, region: str
) -> ComputeError:
    """Add the quota to *error*, a fleet's answer; `Stale` if the next plan has other types.

    The quotas then rest, except for smaller types, so the next plan leaves out what was refused.
    Nothing in *failed*: the call was refused as a whole.
    """
    if not isinstance(error, QuotaReached) or not _is_of_vcpus(error):
        return error
    spent = spent_quotas(failed, plan) or blamed_quota(error, plan)
    named = spent if failed else _quotas(plan)
    text = f"{error}: {explain_all(named, region)}" if named else str(error)
    refused = {each.pool for each in failed}
    is_left = any(each not in refused and _may_fit(each, spent, plan) for each in _pools(plan))
    explained = Stale(f"{text}; trying the other types") if is_left else QuotaReached(text)
    explained.change, explained.in_part = error.change, error.in_part
    return explained


def _may_fit(pool: CapacityPool, spent: Mapping[Quota, int], plan: Plan) -> bool:
    quota = _quota(pool)
    return quota is None or quota not in spent or _vcpus(pool, plan) < spent[quota]


def _is_of_vcpus(error: ComputeError) -> bool:
    return str(error).partition(":")[0] in VCPU_CODES


def _quota(pool: CapacityPool) -> Quota | None:
    return quota_of(pool.instance_type, pool.market)


def _vcpus(pool: CapacityPool, plan: Plan) -> int:
    vcpus: int = plan.get("vcpus", {}).get(pool.instance_type, 0)
    return vcpus


def _quotas(plan: Plan) -> dict[Quota, int]:
    """Return the quotas of the plan's types, and the vCPUs of the largest one of each."""
    found: dict[Quota, int] = {}
    for each in _pools(plan):
        quota = _quota(each)
        if quota is not None:
            found[quota] = max(found.get(quota, 0), _vcpus(each, plan))
    return found


def _pools(plan: Plan) -> list[CapacityPool]:
    market: Market = "spot" if plan["market"] == "spot" else "on-demand"
    return [
        CapacityPool(market, each["InstanceType"], plan["zones"].get(each["SubnetId"], ""))
        for config in plan["fleet"]["LaunchTemplateConfigs"]
        for each in config["Overrides"]
    ]
