"""The account's quotas of vCPUs, for the families that a default job may get."""

from shared.compute.ec2.doctor.asking import MORE, Outcome, ask
from shared.compute.ec2.doctor.probes import MARKETS
from shared.compute.ec2.doctor.scene import Scene
from shared.compute.ec2.quotas import SERVICE, Quota, command_to_raise, quota_of
from shared.compute.port import ComputeError
from shared.findings import Finding, FindingGroup, Status

GROUP = "quotas"
COMFORTABLE_VCPUS = 32.0
"""With fewer, some jobs at once wait for others."""


async def quotas(scene: Scene) -> list[Finding]:
    """Check the quota of each family, on both markets."""
    found = FindingGroup(GROUP)
    for market in MARKETS:
        try:
            draft = await scene.drafts.draft(market)
        except ComputeError as error:
            found.add("skip", f"{market} vCPUs", f"no launch can be planned: {error}")
            continue
        wanted = {quota_of(each, market) for each in draft.types} - {None}
        for quota in sorted(each for each in wanted if each is not None):
            _note(found, quota, await _read(scene, quota), scene.has.region)
    return found.all


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


def _note(found: FindingGroup, quota: Quota, outcome: Outcome, region: str) -> None:
    name = f"{quota.market} vCPUs ({quota.code})"
    do = f"ask for more: {command_to_raise(quota, region)}"
    if outcome.is_denied:
        allow = f"to check it, allow servicequotas:GetServiceQuota ({MORE})"
        found.add("skip", name, outcome.error, allow)
    elif not outcome.is_answer:
        text = f"{outcome.error}; a new account has {quota.default_vcpus}"
        found.add("skip", name, text)
    else:
        vcpus = float(outcome.answer["Quota"]["Value"])
        text = f"{vcpus:g} at once: {quota.name}"
        # Jobs run on Spot unless they ask otherwise, so no on-demand quota may be intended.
        none: Status = "fail" if quota.market == "spot" else "warn"
        some: Status = "ok" if vcpus >= COMFORTABLE_VCPUS else "warn"
        found.add(some if vcpus else none, name, text, do)
