"""The image that instances boot, and the key that encrypts their volumes."""

from typing import Any

from shared.compute.ec2.doctor.asking import MORE, ask
from shared.compute.ec2.doctor.scene import Scene
from shared.compute.ec2.settings import AMI_PARAMETERS
from shared.findings import Finding, FindingGroup

GROUP = "image"
AWS_KEY = "alias/aws/ebs"
"""The key that AWS manages, which needs no permission.
https://docs.aws.amazon.com/ebs/latest/userguide/ebs-encryption-requirements.html
"""


async def image(scene: Scene) -> list[Finding]:
    """Check the parameter, and the image: it exists, fits and can be booted."""
    found, settings = FindingGroup(GROUP), scene.settings
    image_id = settings.image_id
    if not image_id:
        name = AMI_PARAMETERS[settings.architecture]
        outcome = await ask(scene.aws, "GetParameter", service="ssm", Name=name)
        if not outcome.is_answer:
            do = "allow ssm:GetParameter, or name an image in DOCKER_JOB_EC2_IMAGE_ID"
            found.add("fail", "image parameter", f"{name}: {outcome.error}", do)
            return found.all
        image_id = str(outcome.answer["Parameter"]["Value"])
        found.add("ok", "image parameter", f"{name} is {image_id}")
    outcome = await ask(scene.aws, "DescribeImages", ImageIds=[image_id])
    shown = outcome.answer.get("Images") or []
    if not shown:
        do = "name an image of this region that is shared with the account: DOCKER_JOB_EC2_IMAGE_ID"
        found.add("fail", "image", outcome.error or f"there is no {image_id}", do)
    else:
        _note(found, shown[0], scene)
    return found.all


def _note(found: FindingGroup, shown: dict[str, Any], scene: Scene) -> None:
    settings, image_id = scene.settings, shown["ImageId"]
    state, architecture = shown.get("State"), shown.get("Architecture")
    do = "name another image in DOCKER_JOB_EC2_IMAGE_ID"
    if state != "available":
        found.add("fail", "image", f"{image_id} is {state}", do)
    elif architecture != settings.architecture:
        text = f"{image_id} is for {architecture}, and jobs run on {settings.architecture}"
        found.add("fail", "image", text, f"{do}, or set DOCKER_JOB_EC2_ARCHITECTURE={architecture}")
    elif shown.get("RootDeviceType") not in (None, "ebs"):
        found.add("fail", "image", f"{image_id} has no root volume on EBS", do)
    elif (size := _root_gib(shown)) > settings.disk_gib:
        text = f"{image_id} has {size} GiB, so instances get that much, not {settings.disk_gib}"
        found.add("warn", "image", text, f"set DOCKER_JOB_EC2_DISK_GIB to {size} or more")
    else:
        found.add("ok", "image", f"{image_id}, {architecture}, {size} GiB")


def _root_gib(shown: dict[str, Any]) -> int:
    root = shown.get("RootDeviceName")
    volumes = [
        int((each.get("Ebs") or {}).get("VolumeSize") or 0)
        for each in shown.get("BlockDeviceMappings") or []
        if each.get("DeviceName") == root
    ]
    return max(volumes, default=0)


async def volume_key(scene: Scene) -> list[Finding]:
    """Check whether the volumes' key is AWS's own, or one that needs grants."""
    found = FindingGroup(GROUP)
    outcome = await ask(scene.aws, "GetEbsDefaultKmsKeyId")
    if outcome.is_denied:
        allow = f"to check it, allow ec2:GetEbsDefaultKmsKeyId ({MORE})"
        found.add("skip", "volumes' key", outcome.error, allow)
    elif not outcome.is_answer:
        found.add("skip", "volumes' key", outcome.error)
    elif str(outcome.answer["KmsKeyId"]).endswith(AWS_KEY):
        found.add("ok", "volumes' key", AWS_KEY)
    else:
        do = (
            "the key must allow the launcher (kms:CreateGrant, Decrypt, DescribeKey, "
            "GenerateDataKeyWithoutPlaintext, ReEncrypt*) and have a grant for "
            "AWSServiceRoleForEC2Spot: aws kms create-grant (docs/ec2.md)"
        )
        found.add("warn", "volumes' key", f"a key of your own, {outcome.answer['KmsKeyId']}", do)
    return found.all
