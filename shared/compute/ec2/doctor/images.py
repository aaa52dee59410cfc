"""The images that instances boot, and the key that encrypts their volumes."""

from typing import Any, NamedTuple

from shared.compute.ec2.doctor.asking import MORE, ask
from shared.compute.ec2.doctor.scene import Scene
from shared.compute.ec2.settings import AMI_PARAMETERS
from shared.findings import Finding, FindingGroup, Status

GROUP = "image"
NAME_ANOTHER = "name another image in DOCKER_JOB_EC2_IMAGE_ID"
AWS_KEY = "alias/aws/ebs"
"""The key that AWS manages, which needs no permission.
https://docs.aws.amazon.com/ebs/latest/userguide/ebs-encryption-requirements.html
"""


class BootImage(NamedTuple):
    """An image that instances boot; *missing*: the status if it cannot be booted."""

    parameter: str
    architecture: str
    disk_gib: int
    disk_setting: str
    missing: Status


async def image(scene: Scene) -> list[Finding]:
    """Check the parameters, and their images: each exists, fits and can be booted."""
    found, settings = FindingGroup(GROUP), scene.settings
    usual = BootImage(
        AMI_PARAMETERS[settings.architecture],
        settings.architecture,
        settings.disk_gib,
        "DOCKER_JOB_EC2_DISK_GIB",
        "fail",
    )
    if settings.image_id:
        await _check(found, "image", settings.image_id, scene, usual)
        return found.all
    gpu = BootImage(
        AMI_PARAMETERS["gpu"],
        "x86_64",
        settings.gpu_disk_gib,
        "DOCKER_JOB_EC2_GPU_DISK_GIB",
        "warn",  # all other jobs run without it
    )
    await _check_parameter(found, "image", scene, usual)
    await _check_parameter(found, "GPU image", scene, gpu)
    return found.all


async def _check_parameter(found: FindingGroup, name: str, scene: Scene, wanted: BootImage) -> None:
    outcome = await ask(scene.aws, "GetParameter", service="ssm", Name=wanted.parameter)
    if outcome.is_answer:
        image_id = str(outcome.answer["Parameter"]["Value"])
        found.add("ok", f"{name} parameter", f"{wanted.parameter} is {image_id}")
        await _check(found, name, image_id, scene, wanted)
        return
    do = "allow ssm:GetParameter, or name an image in DOCKER_JOB_EC2_IMAGE_ID"
    text = outcome.error
    if outcome.code == "ParameterNotFound":
        do, text = f"{NAME_ANOTHER}, or use another region", f"{scene.has.region} has none"
    found.add(wanted.missing, f"{name} parameter", f"{wanted.parameter}: {text}", do)


async def _check(
    found: FindingGroup, name: str, image_id: str, scene: Scene, wanted: BootImage
) -> None:
    outcome = await ask(scene.aws, "DescribeImages", ImageIds=[image_id])
    shown = outcome.answer.get("Images") or []
    if not shown:
        do = "name an image of this region that is shared with the account: DOCKER_JOB_EC2_IMAGE_ID"
        found.add(wanted.missing, name, outcome.error or f"there is no {image_id}", do)
    else:
        _note(found, name, shown[0], wanted)


def _note(found: FindingGroup, name: str, shown: dict[str, Any], wanted: BootImage) -> None:
    image_id, state, architecture = shown["ImageId"], shown.get("State"), shown.get("Architecture")
    if state != "available":
        found.add(wanted.missing, name, f"{image_id} is {state}", NAME_ANOTHER)
    elif architecture != wanted.architecture:
        text = f"{image_id} is for {architecture}, and jobs run on {wanted.architecture}"
        do = f"{NAME_ANOTHER}, or set DOCKER_JOB_EC2_ARCHITECTURE={architecture}"
        found.add(wanted.missing, name, text, do)
    elif shown.get("RootDeviceType") not in (None, "ebs"):
        found.add(wanted.missing, name, f"{image_id} has no root volume on EBS", NAME_ANOTHER)
    elif (size := _root_gib(shown)) > wanted.disk_gib:
        text = f"{image_id} has {size} GiB, so instances get that much, not {wanted.disk_gib}"
        found.add("warn", name, text, f"set {wanted.disk_setting} to {size} or more")
    else:
        found.add("ok", name, f"{image_id}, {architecture}, {size} GiB")


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
