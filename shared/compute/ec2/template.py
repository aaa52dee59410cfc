"""The deployment's launch template: a version for each contents, identified by their hash.

Made on demand. Versions that were not used for a day are removed; a plan that still names one is
`Stale`, and made again.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct

from shared.clock import Clock
from shared.compute.ec2.client import Aws
from shared.compute.ec2.errors import code_of
from shared.compute.ec2.shapes import DEPLOYMENT
from shared.compute.port import ComputeError, Stale
from shared.events.events import Market
from shared.log import get_logger

_log = get_logger(part="ec2")

KEEP_SECONDS = 86_400.0
TRIES = 3
ALREADY_THERE = "InvalidLaunchTemplateName.AlreadyExistsException"


OF_OLD_TYPES = ("gp2", "standard")
"""Types of volumes that cost more than gp3, and do less."""


class ImageVolume(Struct, frozen=True, kw_only=True):
    """A volume that the image brings beside its root; *gib* is None where EC2 does not show it."""

    device: str
    gib: int | None
    kind: str = ""


class Contents(Struct, frozen=True, kw_only=True):
    """The contents of a version of the template."""

    deployment: str
    market: Market
    image_id: str
    root_device: str
    disk_gib: int
    user_data: str
    instance_profile: str = ""
    security_groups: tuple[str, ...] = ()
    key_name: str = ""
    standard_credits: bool = False
    """Of burstable types: the CPU is slowed down without credits, instead of more being billed."""
    image_volumes: tuple[ImageVolume, ...] = ()

    @property
    def volumes_gib(self) -> int | None:
        """The size of all volumes of an instance; None: that of one is not known."""
        sizes = [each.gib for each in self.image_volumes]
        known = [each for each in sizes if each is not None]
        return self.disk_gib + sum(known) if len(known) == len(sizes) else None


class Version(Struct, frozen=True):
    """An existing version."""

    template_id: str
    number: str


def name_of(deployment: str) -> str:
    """Return the name of the deployment's template."""
    return f"docker-job-{deployment}"


def data_of(contents: Contents) -> dict[str, Any]:
    """Build the template's data for EC2."""
    volume = {
        "VolumeSize": contents.disk_gib,
        "VolumeType": "gp3",
        "Encrypted": True,
        "DeleteOnTermination": True,
    }
    data: dict[str, Any] = {
        "ImageId": contents.image_id,
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions": {
            "HttpEndpoint": "enabled",
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": 1,
            "HttpProtocolIpv6": "disabled",
            "InstanceMetadataTags": "disabled",
        },
        "BlockDeviceMappings": [
            {"DeviceName": contents.root_device, "Ebs": volume},
            *(_mapping(each) for each in contents.image_volumes),
        ],
        "UserData": base64.b64encode(contents.user_data.encode()).decode(),
    }
    if contents.instance_profile:
        key = "Arn" if contents.instance_profile.startswith("arn:") else "Name"
        data["IamInstanceProfile"] = {key: contents.instance_profile}
    if contents.security_groups:
        data["SecurityGroupIds"] = list(contents.security_groups)
    if contents.key_name:
        data["KeyName"] = contents.key_name
    if contents.standard_credits:
        # T3 and T4g are `unlimited` by default, and EC2 refuses the option for other types.
        # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/burstable-performance-instances.html
        data["CreditSpecification"] = {"CpuCredits": "standard"}
    if contents.market == "spot":
        # Only here can a fleet's Spot requests be tagged, and only if it has some.
        ours = {"Key": DEPLOYMENT, "Value": contents.deployment}
        data["TagSpecifications"] = [{"ResourceType": "spot-instances-request", "Tags": [ours]}]
    return data


def _mapping(volume: ImageVolume) -> dict[str, Any]:
    """Have the instance's end delete the volume, which an image may have kept, and encrypt it.

    A mapping of the launch overrides the image's for the same device, and keeps what it leaves
    out, so the snapshot stays the image's.
    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/block-device-mapping-concepts.html
    """
    ebs: dict[str, Any] = {"Encrypted": True, "DeleteOnTermination": True}
    if volume.gib is not None:
        ebs["VolumeSize"] = volume.gib
    if volume.kind in OF_OLD_TYPES:
        ebs["VolumeType"] = "gp3"
    return {"DeviceName": volume.device, "Ebs": ebs}


def hash_of(data: Mapping[str, Any]) -> str:
    """Hash the data: the identity of a version, in its description."""
    return hashlib.sha256(msgspec.json.encode(data, order="sorted")).hexdigest()[:40]


class Template:
    """The template in the account, and its versions as this process knows them."""

    def __init__(self, aws: Aws, clock: Clock, deployment: str) -> None:
        self._aws = aws
        self._clock = clock
        self._deployment = deployment
        self._name = name_of(deployment)
        self._known: dict[str, Version] = {}
        self._used_at: dict[str, datetime] = {}

    async def version(self, contents: Contents) -> Version:
        """Find the version with these contents, or make it. Raises a `ComputeError`."""
        data = data_of(contents)
        key = hash_of(data)
        self._forget_unused(self._clock.now())
        self._used_at[key] = self._clock.now()
        if key not in self._known:
            self._known[key] = await self._find_or_make(key, data)
        return self._known[key]

    def _forget_unused(self, now: datetime) -> None:
        """Forget contents that were not used for a day: jobs may ask for any number of them."""
        oldest = now - timedelta(seconds=KEEP_SECONDS)
        self._used_at = {key: at for key, at in self._used_at.items() if at > oldest}
        self._known = {key: each for key, each in self._known.items() if key in self._used_at}

    def forget(self) -> None:
        """Forget the known versions: the next call reads them again."""
        self._known.clear()

    async def _find_or_make(self, key: str, data: dict[str, Any]) -> Version:
        for _ in range(TRIES):
            versions = await self._versions()
            found = [each for each in versions if each.get("VersionDescription") == key]
            if found:
                return _read(found[-1])
            if versions:
                return await self._add(key, data, versions)
            try:
                return await self._create(key, data)
            except ComputeError as error:
                if error.__cause__ is None or not _is_there_already(error):
                    raise  # else another replica was faster: read its template
        raise Stale(f"launch template {self._name} appears and disappears")

    async def _versions(self) -> list[dict[str, Any]]:
        try:
            return await self._aws.read_all(
                "DescribeLaunchTemplateVersions",
                "LaunchTemplateVersions",
                LaunchTemplateName=self._name,
            )
        except Stale:
            return []  # no such template

    async def _create(self, key: str, data: dict[str, Any]) -> Version:
        ours = {"Key": DEPLOYMENT, "Value": self._deployment}
        made = await self._aws.call(
            "CreateLaunchTemplate",
            LaunchTemplateName=self._name,
            VersionDescription=key,
            LaunchTemplateData=data,
            TagSpecifications=[{"ResourceType": "launch-template", "Tags": [ours]}],
        )
        shown = made["LaunchTemplate"]
        return Version(shown["LaunchTemplateId"], str(shown["LatestVersionNumber"]))

    async def _add(
        self, key: str, data: dict[str, Any], versions: Sequence[Mapping[str, Any]]
    ) -> Version:
        made = await self._aws.call(
            "CreateLaunchTemplateVersion",
            LaunchTemplateName=self._name,
            VersionDescription=key,
            LaunchTemplateData=data,
        )
        version = _read(made["LaunchTemplateVersion"])
        try:
            await self._remove_superseded(version, versions)
        except ComputeError as error:  # they cost nothing, and the next version removes them
            _log.warning("superseded template versions are left", error=str(error))
        return version

    async def _remove_superseded(
        self, newest: Version, versions: Sequence[Mapping[str, Any]]
    ) -> None:
        """Remove versions not used for a day; the default cannot be, so it is the newest."""
        oldest = self._clock.now() - timedelta(seconds=KEEP_SECONDS)
        used = {key for key, at in self._used_at.items() if at > oldest}
        numbers = [
            str(each["VersionNumber"])
            for each in versions
            if each["CreateTime"] < oldest and each.get("VersionDescription") not in used
        ]
        if numbers:
            await self._aws.call(
                "ModifyLaunchTemplate",
                LaunchTemplateId=newest.template_id,
                DefaultVersion=newest.number,
            )
            await self._aws.call(
                "DeleteLaunchTemplateVersions",
                LaunchTemplateId=newest.template_id,
                Versions=numbers[:200],  # the limit of one call
            )


def _read(shown: Mapping[str, Any]) -> Version:
    return Version(shown["LaunchTemplateId"], str(shown["VersionNumber"]))


def _is_there_already(error: ComputeError) -> bool:
    cause = error.__cause__
    return isinstance(cause, Exception) and code_of(cause) == ALREADY_THERE
