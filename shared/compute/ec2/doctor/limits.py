"""The account's quotas of vCPUs, for the families that a default job may get."""

from collections.abc import Mapping, Sequence

from shared.compute.ec2.doctor.asking import MORE, Outcome, ask
from shared.compute.ec2.doctor.probes import MARKETS
from shared.compute.ec2.doctor.scene import Scene
from shared.compute.ec2.quotas import SERVICE, Quota, command_to_raise, quota_of
from shared.compute.port import ComputeError
from shared.events.events import Market
from shared.findings import Finding, FindingGroup

GROUP = "quotas"
COMFORTABLE_VCPUS = 32
"""With fewer, some jobs at once wait for others."""

TYPES_A_CALL = 100
"""https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstanceTypes.html"""


async def quotas(scene: Scene) -> list[Finding]:
    """Check the quota of each family, on both markets."""
    found = FindingGroup(GROUP)
    for market in MARKETS:
        try:
            draft = await scene.drafts.draft(market)
        except ComputeError as error:
            found.add("skip", f"{market} vCPUs", f"no launch can be planned: {error}")
            continue
        least = least_vcpus(draft.types, await _sizes(scene, draft.types), market)
        read = {each: await _read(scene, each) for each in sorted(least)}
        counted = all(quota_of(each, market) for each in draft.types)
        others = not counted or any(_has_room(read[each], least[each]) for each in least)
        for quota, outcome in read.items():
            _note(found, quota, outcome, least[quota], scene.has.region, others=others)
    return found.all


def least_vcpus(types: Sequence[str], sizes: Mapping[str, int], market: Market) -> dict[Quota, int]:
    """Return the vCPUs of the smallest of *types* under each quota; 1 for an unknown size."""
    least: dict[Quota, int] = {}
    for each in types:
        quota, size = quota_of(each, market), sizes.get(each, 1)
        if quota is not None:
            least[quota] = min(size, least.get(quota, size))
    return least


async def _sizes(scene: Scene, types: Sequence[str]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for start in range(0, len(types), TYPES_A_CALL):
        part = list(types[start : start + TYPES_A_CALL])
        outcome = await ask(scene.aws, "DescribeInstanceTypes", InstanceTypes=part)
        sizes |= {
            str(each["InstanceType"]): int(each["VCpuInfo"]["DefaultVCpus"])
            for each in outcome.answer.get("InstanceTypes") or []
        }
    return sizes


async def _read(scene: Scene, quota: Quota) -> Outcome:
    """Read the applied value.

    https://docs.aws.amazon.com/servicequotas/2019-06-24/apireference/API_GetServiceQuota.html
    """
    return await ask(
        scene.aws,
        "GetServiceQuota",
        service="service-quotas",
        ServiceCode=SERVICE,
        QuotaCode=quota.code,
    )


def _has_room(outcome: Outcome, least: int) -> bool:
    """Return whether an instance of *least* vCPUs fits; a quota that is not known may have room."""
    return not outcome.is_answer or float(outcome.answer["Quota"]["Value"]) >= least


def _note(
    found: FindingGroup, quota: Quota, outcome: Outcome, least: int, region: str, *, others: bool
) -> None:
    """Note a quota; *others*: a family of this market has room for an instance."""
    name = f"{quota.market} vCPUs ({quota.code})"
    do = f"ask for more: {command_to_raise(quota, region, max(COMFORTABLE_VCPUS, 2 * least))}"
    if outcome.is_denied:
        allow = f"to check it, allow servicequotas:GetServiceQuota ({MORE})"
        found.add("skip", name, outcome.error, allow)
        return
    if not outcome.is_answer:
        text = f"{outcome.error}; a new account has {quota.default_vcpus}"
        found.add("skip", name, text)
        return
    vcpus = float(outcome.answer["Quota"]["Value"])
    text = f"{vcpus:g} at once: {quota.name}"
    if _has_room(outcome, least):
        found.add("ok" if vcpus >= COMFORTABLE_VCPUS else "warn", name, text, do)
        return
    text += f", and the smallest type that a job may get has {least}"
    # Jobs run on Spot unless they ask otherwise, so no on-demand quota may be intended.
    found.add("fail" if quota.market == "spot" and not others else "warn", name, text, do)
