"""From a call's parameters to a launch plan: templates, overrides, and EC2's validation."""

import base64
import binascii
from collections.abc import Iterable
from typing import Any

from fake_aws.errors import AwsError, combination, invalid, missing
from fake_aws.instance import Plan
from fake_aws.moto_side import (
    Image,
    InstanceType,
    MotoSide,
    Subnet,
    all_instance_types,
    instance_type,
)
from fake_aws.tag_rules import check_shown_in_metadata, tags_for
from fake_aws.templates import Templates
from fake_aws.volumes import Volume, volumes_of

Params = dict[str, Any]
MOST_USER_DATA = 16 * 1024
OVERRIDDEN = ("InstanceType", "SubnetId", "ImageId", "InstanceRequirements")


class Plans:
    """Builds launch plans. Every method may raise AwsError, and none changes anything."""

    def __init__(
        self, moto: MotoSide, templates: Templates, *, metadata_tags: bool = False
    ) -> None:
        """*metadata_tags*: the account's default shows instances' tags in their metadata."""
        self._moto = moto
        self._templates = templates
        self._metadata_tags = metadata_tags

    def template(self, given: Params) -> tuple[Params, Params]:
        """Return the data of the named template version, and the reference for the answer."""
        template = self._templates.find(given)
        number = template.number(given.get("Version"))
        data: Params = template.versions[number]["LaunchTemplateData"]
        return data, {"LaunchTemplateId": template.id, "Version": str(number)}

    def subnet(self, data: Params) -> Subnet:
        """Choose the subnet: the given one, the zone's default one, or any default one."""
        interfaces = data.get("NetworkInterfaces") or [{}]
        subnet_id = data.get("SubnetId") or interfaces[0].get("SubnetId")
        if subnet_id:
            return self._moto.subnet(subnet_id)
        zone = data.get("AvailabilityZone") or (data.get("Placement") or {}).get("AvailabilityZone")
        for each in self._moto.default_subnets():
            if zone in (None, each.zone):
                return each
        raise invalid(f"Invalid availability zone: [{zone}]")

    def plan(self, data: Params, *, market: str, specifications: list[Params], token: str) -> Plan:
        """Build the plan from *data*, a template's merged with the call's own."""
        if not data.get("ImageId"):
            raise missing("ImageId")
        kind = instance_type(data.get("InstanceType") or "m1.small")
        image = self._moto.image(data["ImageId"])
        subnet = self.subnet(data)
        self._check(kind, image.architecture, subnet, market)
        own = data.get("TagSpecifications", [])
        instance_tags, volume_tags, request_tags = (
            tags_for(kind, own) | tags_for(kind, specifications)
            for kind in ("instance", "volume", "spot-instances-request")
        )
        metadata = data.get("MetadataOptions") or {}
        default = "enabled" if self._metadata_tags else "disabled"
        if metadata.get("InstanceMetadataTags", default) == "enabled":
            check_shown_in_metadata(instance_tags)
        options = (data.get("InstanceMarketOptions") or {}).get("SpotOptions") or {}
        profile = data.get("IamInstanceProfile") or {}
        return Plan(
            image=image,
            kind=kind,
            subnet=subnet,
            market=market,
            persistent=options.get("SpotInstanceType") == "persistent",
            max_price=float(options["MaxPrice"]) if options.get("MaxPrice") else None,
            user_data=_user_data(data.get("UserData") or ""),
            shutdown_behavior=data.get("InstanceInitiatedShutdownBehavior") or "stop",
            profile=self._profile(profile),
            metadata=metadata,
            public_ipv4=_has_address(data, subnet),
            volumes=_volumes(image, data),
            security_groups=self._groups(data),
            key_name=data.get("KeyName"),
            cpu_credits=_cpu_credits(kind, data),
            client_token=token,
            instance_tags=instance_tags,
            volume_tags=volume_tags,
            request_tags=request_tags,
        )

    def matching_types(self, wanted: Params) -> list[str]:
        """Return the types that match InstanceRequirements, smallest first."""
        found = [kind for kind in all_instance_types() if _allowed(kind, wanted)]
        found.sort(key=lambda kind: (kind.vcpus, kind.memory_mib, kind.name))
        return [kind.name for kind in found]

    def _check(self, kind: InstanceType, architecture: str, subnet: Subnet, market: str) -> None:
        if kind.name not in self._moto.types_in(subnet.zone):
            raise AwsError(
                "Unsupported",
                f"Your requested instance type ({kind.name}) is not supported in your requested "
                f"Availability Zone ({subnet.zone}).",
            )
        if architecture not in kind.architectures:
            raise invalid(
                f"The architecture '{architecture}' of the specified AMI does not match the "
                f"architecture '{','.join(kind.architectures)}' of the instance type {kind.name}."
            )
        if market not in kind.usage_classes:
            raise AwsError(
                "Unsupported", f"{kind.name} is not available as {market}, by its usage classes."
            )

    def _groups(self, data: Params) -> tuple[str, ...]:
        interfaces = data.get("NetworkInterfaces") or [{}]
        groups = tuple(data.get("SecurityGroupIds") or interfaces[0].get("Groups") or ())
        for each in groups:
            if not self._moto.has_security_group(each):
                raise AwsError(
                    "InvalidGroup.NotFound", f"The security group '{each}' does not exist"
                )
        return groups

    def _profile(self, given: Params) -> str | None:
        name, arn = given.get("Name") or "", given.get("Arn") or ""
        return self._moto.profile(name, arn) if name or arn else None


def overridden(data: Params, override: Params) -> Params:
    """Merge a fleet's override into a template's *data*."""
    merged = data | {name: override[name] for name in OVERRIDDEN if override.get(name)}
    if override.get("SubnetId") and data.get("NetworkInterfaces"):
        first, *rest = data["NetworkInterfaces"]
        merged["NetworkInterfaces"] = [{**first, "SubnetId": override["SubnetId"]}, *rest]
    if override.get("AvailabilityZone"):
        merged["AvailabilityZone"] = override["AvailabilityZone"]
    if merged.get("InstanceType") and merged.get("InstanceRequirements"):
        raise combination("InstanceType and InstanceRequirements cannot both be given.")
    return merged


def _volumes(image: Image, data: Params) -> tuple[Volume, ...]:
    return volumes_of(image.root_device, image.volumes, data.get("BlockDeviceMappings") or ())


def _cpu_credits(kind: InstanceType, data: Params) -> str:
    """Return the credit option. Raises AwsError if one is given for another type.

    https://github.com/hashicorp/terraform-provider-aws/issues/5067 has the error; the defaults:
    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/burstable-performance-instances.html
    """
    given = data.get("CreditSpecification") or {}
    if given and not kind.burstable:
        raise AwsError(
            "InstanceCreditSpecification.NotSupported",
            f"The {kind.name} instance type does not support T2 Unlimited.",
        )
    if not kind.burstable:
        return ""
    default = "standard" if kind.name.startswith("t2.") else "unlimited"
    return str(given.get("CpuCredits") or default)


def _has_address(data: Params, subnet: Subnet) -> bool:
    """Return whether the instance gets a public address: by the call, or as its subnet does."""
    given = (data.get("NetworkInterfaces") or [{}])[0].get("AssociatePublicIpAddress")
    return subnet.public if given is None else bool(given)


def _allowed(kind: InstanceType, wanted: Params) -> bool:
    accelerators = wanted.get("AcceleratorCount", {"Max": 0})
    return (
        _within(kind.vcpus, wanted["VCpuCount"])
        and _within(kind.memory_mib, wanted["MemoryMiB"])
        and _within(kind.gpus, accelerators)
        and (kind.current_generation or "previous" in wanted.get("InstanceGenerations", ()))
        and not (kind.bare_metal and wanted.get("BareMetal", "excluded") == "excluded")
        and not (kind.burstable and wanted.get("BurstablePerformance", "excluded") == "excluded")
        and _named(kind.name, wanted.get("AllowedInstanceTypes"), default=True)
        and not _named(kind.name, wanted.get("ExcludedInstanceTypes"), default=False)
    )


def _within(value: int, bounds: Params) -> bool:
    return bool(bounds.get("Min", 0) <= value <= bounds.get("Max", float("inf")))


def _named(name: str, patterns: Iterable[str] | None, *, default: bool) -> bool:
    if not patterns:
        return default
    return any(
        name == pattern or (pattern.endswith("*") and name.startswith(pattern[:-1]))
        for pattern in patterns
    )


def _user_data(given: str) -> str:
    try:
        raw = base64.b64decode(given, validate=True)
    except binascii.Error as error:
        raise AwsError(
            "InvalidUserData.Malformed", "Invalid BASE64 encoding of user data"
        ) from error
    if len(raw) > MOST_USER_DATA:
        raise invalid(f"User data is limited to {MOST_USER_DATA} bytes")
    return given
