"""The launch template that the launcher has made."""

from typing import Any

from shared.compute.ec2.doctor.asking import ask
from shared.compute.ec2.doctor.scene import Scene
from shared.compute.ec2.template import name_of
from shared.findings import Finding, FindingGroup

GROUP = "template"
METADATA = "instance metadata"


async def template(scene: Scene) -> list[Finding]:
    """Check that every version requires IMDSv2 from one hop away."""
    found, name = FindingGroup(GROUP), name_of(scene.has.deployment)
    outcome = await ask(scene.aws, "DescribeLaunchTemplateVersions", LaunchTemplateName=name)
    if "NotFound" in outcome.code:
        found.add("ok", "launch template", f"{name} is made by the first launch")
        return found.all
    if not outcome.is_answer:
        found.add("skip", "launch template", outcome.error)
        return found.all
    versions = outcome.answer.get("LaunchTemplateVersions") or []
    found.add("ok", "launch template", f"{name}, {len(versions)} versions")
    open_ones = [str(each["VersionNumber"]) for each in versions if not _is_closed(each)]
    if open_ones:
        text = f"version {', '.join(open_ones)} lets containers reach the instance's role"
        do = (
            f"aws ec2 delete-launch-template --launch-template-name {name}: the launcher makes "
            "it anew, with HttpTokens=required and HttpPutResponseHopLimit=1"
        )
        found.add("fail", METADATA, text, do)
    else:
        found.add("ok", METADATA, "IMDSv2 alone, one hop")
    return found.all


def _is_closed(version: dict[str, Any]) -> bool:
    """Return whether only the instance itself may read its role's credentials.

    An option that the version leaves out comes from the account's or the image's default, which for
    Amazon Linux 2023 is a hop limit of 2: what is not set is not closed.
    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-IMDS-new-instances.html
    https://docs.aws.amazon.com/linux/al2023/ug/imdsv2.html
    """
    options = (version.get("LaunchTemplateData") or {}).get("MetadataOptions") or {}
    return (
        options.get("HttpTokens") == "required"
        and int(options.get("HttpPutResponseHopLimit") or 0) == 1
    )
