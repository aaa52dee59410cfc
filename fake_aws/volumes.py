"""The volumes of an instance: those of its image, as the launch has changed them."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from fake_aws.errors import AwsError

ROOT_GIB = 8
"""Of a root volume whose size neither the image nor the launch has."""


class Volume(NamedTuple):
    """A volume; *ends_with_instance* is its DeleteOnTermination."""

    device: str
    gib: int
    kind: str = "gp2"
    encrypted: bool = False
    ends_with_instance: bool = True


def volumes_of(
    root_device: str,
    of_image: Iterable[Mapping[str, Any]],
    given: Iterable[Mapping[str, Any]],
) -> tuple[Volume, ...]:
    """Merge the launch's mappings into the image's, by device. Raises AwsError.

    A launch overrides what it gives, and may leave a device out with NoDevice. A volume of the
    image is no smaller than the image's snapshot.
    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/block-device-mapping-concepts.html
    """
    # moto's images keep their root volume, which those of AWS do not.
    own = {each["DeviceName"]: dict(each["Ebs"]) for each in of_image if each.get("Ebs")}
    own.setdefault(root_device, {"VolumeSize": ROOT_GIB})["DeleteOnTermination"] = True
    merged = {device: dict(ebs) for device, ebs in own.items()}
    for each in given:
        device = each["DeviceName"]
        if each.get("NoDevice") is not None:
            merged.pop(device, None)
        elif each.get("Ebs") is not None:
            merged[device] = merged.get(device, {}) | each["Ebs"]
    return tuple(_volume(device, ebs, own.get(device, {})) for device, ebs in merged.items())


def _volume(device: str, ebs: Mapping[str, Any], of_image: Mapping[str, Any]) -> Volume:
    size, least = ebs.get("VolumeSize"), int(of_image.get("VolumeSize") or 0)
    if size is None and not ebs.get("SnapshotId"):
        raise AwsError(
            "MissingParameter",
            f"The request must contain the parameter size or snapshotId for {device}",
        )
    if size is not None and int(size) < least:
        raise AwsError(
            "InvalidBlockDeviceMapping",
            f"Volume of size {size}GB is smaller than snapshot "
            f"'{of_image.get('SnapshotId')}', expect size >= {least}GB",
        )
    return Volume(
        device,
        int(size or ROOT_GIB),
        str(ebs.get("VolumeType") or "gp2"),
        str(ebs.get("Encrypted", False)).lower() == "true",
        str(ebs.get("DeleteOnTermination", True)).lower() == "true",
    )
