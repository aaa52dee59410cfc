"""Each permission of docs/iam/launcher.json and reaper.json, proven by a call."""

import asyncio
from collections.abc import Mapping

from shared.compute.ec2.doctor import probes
from shared.compute.ec2.doctor.asking import DRY_RUN, Outcome, dry_run
from shared.compute.ec2.doctor.probes import Probe, Unprovable, reading
from shared.compute.ec2.doctor.scene import Role, Scene
from shared.findings import Finding, FindingGroup

GROUP = "permissions"

BY_ROLE: Mapping[Role, tuple[str, ...]] = {
    "launcher": (
        *("ec2:DescribeImages", "ec2:DescribeInstances", "ec2:DescribeInstanceTypes"),
        *("ec2:DescribeInstanceTypeOfferings", "ec2:DescribeLaunchTemplateVersions"),
        *("ec2:DescribeSpotPriceHistory", "ec2:DescribeSubnets"),
        *("pricing:GetProducts", "ssm:GetParameter"),
        *("ec2:CreateLaunchTemplate", "ec2:CreateLaunchTemplateVersion"),
        *("ec2:DeleteLaunchTemplateVersions", "ec2:ModifyLaunchTemplate"),
        *("ec2:CreateFleet", "ec2:RunInstances", "ec2:CreateTags", "iam:PassRole"),
        "sts:DecodeAuthorizationMessage",
    ),
    "reaper": (
        *("ec2:DescribeInstances", "ec2:DescribeSpotInstanceRequests"),
        *("ec2:DescribeSpotPriceHistory", "pricing:GetProducts"),
        *("ec2:TerminateInstances", "ec2:CancelSpotInstanceRequests", "ec2:GetConsoleOutput"),
        *("sqs:ReceiveMessage", "sqs:DeleteMessage", "sts:DecodeAuthorizationMessage"),
    ),
}
"""The actions of the documents; a test compares both."""

PROBES: Mapping[str, Probe] = {
    "ec2:DescribeImages": reading("DescribeImages", Owners=["self"]),
    "ec2:DescribeInstances": reading("DescribeInstances", MaxResults=5),
    "ec2:DescribeInstanceTypes": reading("DescribeInstanceTypes", MaxResults=5),
    "ec2:DescribeInstanceTypeOfferings": reading("DescribeInstanceTypeOfferings", MaxResults=5),
    "ec2:DescribeLaunchTemplateVersions": probes.template_versions,
    "ec2:DescribeSpotInstanceRequests": reading("DescribeSpotInstanceRequests", MaxResults=5),
    "ec2:DescribeSpotPriceHistory": reading(
        "DescribeSpotPriceHistory", InstanceTypes=["m5.large"], MaxResults=5
    ),
    "ec2:DescribeSubnets": reading("DescribeSubnets", MaxResults=5),
    "ec2:CreateLaunchTemplate": probes.new_template,
    "ec2:CreateLaunchTemplateVersion": probes.new_version,
    "ec2:DeleteLaunchTemplateVersions": probes.old_versions,
    "ec2:ModifyLaunchTemplate": probes.default_version,
    "ec2:CreateFleet": probes.fleets,
    "ec2:RunInstances": probes.runs,
    "ec2:TerminateInstances": probes.termination,
    "ec2:CancelSpotInstanceRequests": probes.cancellation,
    "ec2:GetConsoleOutput": probes.console,
    "pricing:GetProducts": probes.price_list,
    "ssm:GetParameter": probes.image_parameter,
    "sqs:ReceiveMessage": probes.reception,
    "sqs:DeleteMessage": probes.deletion,
    "sts:DecodeAuthorizationMessage": probes.decoding,
}

CHANGING = frozenset(
    {
        *("ec2:CreateLaunchTemplate", "ec2:CreateLaunchTemplateVersion"),
        *("ec2:DeleteLaunchTemplateVersions", "ec2:ModifyLaunchTemplate"),
        *("ec2:CreateFleet", "ec2:RunInstances"),
        *("ec2:TerminateInstances", "ec2:CancelSpotInstanceRequests"),
    }
)
"""The calls that are made only with `DryRun`."""

WITHIN = {"ec2:CreateTags": "ec2:RunInstances", "iam:PassRole": "ec2:RunInstances"}
"""Has no call of its own to try: EC2 checks it within the other's dry run.
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/supported-iam-actions-tagging.html
"""

PERMITTED: Mapping[str, frozenset[str]] = {
    "sqs:DeleteMessage": frozenset({"ReceiptHandleIsInvalid", "InvalidParameterValue"}),
    "sts:DecodeAuthorizationMessage": frozenset({"InvalidAuthorizationMessageException"}),
    "ssm:GetParameter": frozenset({"ParameterNotFound"}),
    "ec2:CreateLaunchTemplate": frozenset({"InvalidLaunchTemplateName.AlreadyExistsException"}),
    "ec2:DescribeLaunchTemplateVersions": frozenset(
        {"InvalidLaunchTemplateName.NotFoundException"}
    ),
}
"""Errors of a call that is permitted: they concern its values."""

NEEDED_FOR_A_SETTING = {
    "pricing:GetProducts": "DOCKER_JOB_EC2_PRICES=api",
    "ssm:GetParameter": "an empty DOCKER_JOB_EC2_IMAGE_ID",
}


async def permissions(scene: Scene) -> list[Finding]:
    """Prove the permissions of each role that the credentials should have."""
    actions = {action: role for role in scene.has.roles for action in BY_ROLE[role]}
    needed = [each for each in actions if each not in WITHIN]
    # An emulator may ignore DryRun: it would launch an instance.
    ignored = (await dry_run(scene.aws, "DescribeInstances", MaxResults=5)).is_answer
    trying = (_try(scene, each, dry_run_ignored=ignored) for each in needed)
    tried = dict(zip(needed, await asyncio.gather(*trying), strict=True))
    found = FindingGroup(GROUP)
    for action, role in actions.items():
        if action in WITHIN:
            _note_within(found, action, tried[WITHIN[action]])
        else:
            _note(found, action, role, tried[action], scene)
    return found.all


async def _try(scene: Scene, action: str, *, dry_run_ignored: bool) -> Outcome | Unprovable:
    if dry_run_ignored and action in CHANGING:
        return Unprovable("this endpoint ignores DryRun, so nothing is tried that changes it")
    try:
        return await PROBES[action](scene)
    except Unprovable as error:
        return error


def _is_permitted(action: str, outcome: Outcome) -> bool:
    return outcome.code in ("", DRY_RUN) or outcome.code in PERMITTED.get(action, ())


def _note(
    found: FindingGroup, action: str, role: Role, outcome: Outcome | Unprovable, scene: Scene
) -> None:
    if isinstance(outcome, Unprovable):
        found.add("skip", action, str(outcome))
    elif _is_permitted(action, outcome):
        found.add("ok", action, "allowed")
    elif outcome.is_denied and not _matters(action, scene):
        text = f"not allowed, and needed only with {NEEDED_FOR_A_SETTING[action]}"
        found.add("skip", action, text)
    elif outcome.is_denied:
        do = f"allow it to the {role}'s credentials, as in docs/iam/{role}.json"
        found.add("fail", action, f"not allowed: {outcome.error}", do)
    else:
        do = "mend what it names, and check again: the permission is not proven"
        found.add("warn", action, f"refused for another reason: {outcome.error}", do)


def _note_within(found: FindingGroup, action: str, outcome: Outcome | Unprovable) -> None:
    within = WITHIN[action]
    if isinstance(outcome, Unprovable):
        found.add("skip", action, f"EC2 checks it within {within}, and {outcome}")
    elif _is_permitted(within, outcome):
        found.add("ok", action, f"allowed, within {within}")
    elif outcome.is_denied and action in outcome.message:
        do = "allow it to the launcher's credentials, as in docs/iam/launcher.json"
        found.add("fail", action, f"not allowed: {outcome.error}", do)
    else:
        text = f"EC2 checks it within {within}, which is refused; it may be the reason"
        found.add("warn", action, text, "compare with docs/iam/launcher.json")


def _matters(action: str, scene: Scene) -> bool:
    """Return whether the settings need the action."""
    if action == "pricing:GetProducts":
        return scene.settings.prices == "api"  # "auto" has a table too
    if action == "ssm:GetParameter":
        return not scene.settings.image_id
    return True
