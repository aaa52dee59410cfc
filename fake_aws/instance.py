"""One instance: its launch plan, its state, and its form in Describe calls."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

from fake_aws.moto_side import Image, InstanceType, Subnet
from fake_aws.pools import Pool
from fake_aws.volumes import Volume


class State(IntEnum):
    """EC2's states and their codes."""

    PENDING = 0
    RUNNING = 16
    SHUTTING_DOWN = 32
    TERMINATED = 48
    STOPPING = 64
    STOPPED = 80

    @property
    def label(self) -> str:
        """EC2's name of the state."""
        return self.name.lower().replace("_", "-")

    def shown(self) -> dict[str, Any]:
        """Return the state in the form of EC2's answers."""
        return {"Code": int(self), "Name": self.label}


OVER = {State.SHUTTING_DOWN, State.TERMINATED}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The launch plan of an instance: the template's data merged with the call's."""

    image: Image
    kind: InstanceType
    subnet: Subnet
    market: str
    """"spot" or "on-demand"."""
    persistent: bool = False
    """Whether the Spot request launches again after its instance has ended."""
    max_price: float | None = None
    user_data: str = ""
    """In base64, as received."""
    shutdown_behavior: str = "stop"
    profile: str | None = None
    """The name or ARN of the instance profile."""
    metadata: dict[str, Any] = field(default_factory=dict)
    public_ipv4: bool = False
    volumes: tuple[Volume, ...] = ()
    security_groups: tuple[str, ...] = ()
    key_name: str | None = None
    cpu_credits: str = ""
    """"standard" or "unlimited"; empty for types that are not burstable."""
    client_token: str = ""
    instance_tags: dict[str, str] = field(default_factory=dict)
    volume_tags: dict[str, str] = field(default_factory=dict)
    request_tags: dict[str, str] = field(default_factory=dict)

    @property
    def usable_gpus(self) -> int | None:
        """The GPUs for which the image loads a driver; None: it has no container toolkit either.

        https://github.com/aws/amazon-ecs-ami/blob/main/scripts/al2023/gpu/nvidia-kmod-load.sh has
        modules for all of NVIDIA's but for p3dn's.
        """
        if "-gpu-" not in self.image.name:
            return None
        return 0 if self.kind.name.startswith("p3dn.") else self.kind.nvidia_gpus

    @property
    def pool(self) -> Pool:
        """The pool that the capacity comes from."""
        return Pool(self.market, self.kind.name, self.subnet.zone)

    def shown(self) -> dict[str, Any]:
        """Return the fields of DescribeInstances that never change."""
        shown: dict[str, Any] = {
            "ImageId": self.image.id,
            "InstanceType": self.kind.name,
            "Placement": {
                "AvailabilityZone": self.subnet.zone,
                "GroupName": "",
                "Tenancy": "default",
            },
            "Architecture": self.kind.architectures[0],
            "RootDeviceName": self.image.root_device,
            "RootDeviceType": "ebs",
            "VirtualizationType": "hvm",
            "Hypervisor": "xen",
            "EnaSupport": True,
            "EbsOptimized": False,
            "AmiLaunchIndex": 0,
            "Monitoring": {"State": "disabled"},
            "ClientToken": self.client_token,
            "MetadataOptions": {"State": "applied", "HttpEndpoint": "enabled", **self.metadata},
            "SecurityGroups": [{"GroupId": each} for each in self.security_groups],
            "CpuOptions": {"CoreCount": self.kind.vcpus, "ThreadsPerCore": 1},
            # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/billing-info-fields.html
            "PlatformDetails": self.image.platform or "Linux/UNIX",
            "UsageOperation": "RunInstances",
        }
        return shown | ({"KeyName": self.key_name} if self.key_name else {})


@dataclass(kw_only=True)
class Instance:
    """An instance, from its launch until Describe no longer shows it."""

    id: str
    plan: Plan
    reservation: str
    owner: str
    address: str
    launched_at: datetime
    visible_at: datetime
    state: State = State.PENDING
    spot_request: str | None = None
    volume_ids: tuple[str, ...] = ()
    """In the order of the plan's volumes."""
    tags: dict[str, str] = field(default_factory=dict)
    reason_code: str = ""
    reason: str = ""
    """StateReason's message."""
    transition: str = ""
    """StateTransitionReason."""
    running_at: datetime | None = None
    ended_at: datetime | None = None
    """The end of billing."""
    interrupt_at: datetime | None = None
    """The time of the interruption; None: no notice was given."""
    rebalance_at: datetime | None = None
    console: str = ""
    posted: str = ""
    """What EC2 has posted of the console after a change of state."""
    loses_tags_at: datetime | None = None
    """From then on EC2 does not show the tags of the terminated instance."""

    def tags_at(self, now: datetime) -> dict[str, str]:
        """Return the tags that EC2 shows."""
        lost = self.loses_tags_at is not None and self.loses_tags_at <= now
        return {} if lost else self.tags

    def shown(self, region: str) -> dict[str, Any]:
        """Return the instance in the form of DescribeInstances."""
        plan = self.plan
        over = self.state is State.TERMINATED
        tags = self.tags_at(datetime.now(UTC))
        dns_name = f"ip-{self.address.replace('.', '-')}.{region}.internal"
        shown: dict[str, Any] = {
            "InstanceId": self.id,
            "State": self.state.shown(),
            "StateTransitionReason": self.transition,
            "LaunchTime": self.launched_at,
            "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
            "PrivateDnsName": "" if over else dns_name,
            "BlockDeviceMappings": [] if over else self._volumes(),
            **plan.shown(),
        }
        if not over:
            shown |= {
                "SubnetId": plan.subnet.id,
                "VpcId": plan.subnet.vpc,
                "PrivateIpAddress": self.address,
            }
        if plan.public_ipv4 and self.state is State.RUNNING:  # one in shutting-down gave it back
            shown["PublicIpAddress"] = self.public_address
        if self.spot_request:
            shown |= {"InstanceLifecycle": "spot", "SpotInstanceRequestId": self.spot_request}
        if plan.profile:
            shown["IamInstanceProfile"] = {"Arn": plan.profile, "Id": "AIPA" + self.id[2:].upper()}
        if self.reason_code:
            shown["StateReason"] = {"Code": self.reason_code, "Message": self.reason}
        return shown

    @property
    def public_address(self) -> str:
        """Its address of a net for documentation (RFC 5737), unless it has none."""
        return f"203.0.113.{int(self.address.rpartition('.')[2])}"

    def _volumes(self) -> list[dict[str, Any]]:
        return [
            {
                "DeviceName": volume.device,
                "Ebs": {
                    "VolumeId": volume_id,
                    "Status": "attached",
                    "DeleteOnTermination": volume.ends_with_instance,
                    "AttachTime": self.launched_at,
                },
            }
            for volume, volume_id in zip(self.plan.volumes, self.volume_ids, strict=True)
        ]


FILTERS: dict[str, Callable[[Instance], str | None]] = {
    "instance-id": lambda it: it.id,
    "instance-state-name": lambda it: it.state.label,
    "instance-state-code": lambda it: str(int(it.state)),
    "instance-type": lambda it: it.plan.kind.name,
    "instance-lifecycle": lambda it: "spot" if it.spot_request else None,
    "spot-instance-request-id": lambda it: it.spot_request,
    "availability-zone": lambda it: it.plan.subnet.zone,
    "subnet-id": lambda it: it.plan.subnet.id,
    "vpc-id": lambda it: it.plan.subnet.vpc,
    "image-id": lambda it: it.plan.image.id,
    "client-token": lambda it: it.plan.client_token or None,
    "private-ip-address": lambda it: it.address,
    "reservation-id": lambda it: it.reservation,
    "owner-id": lambda it: it.owner,
    "iam-instance-profile.arn": lambda it: it.plan.profile,
    "state-reason-code": lambda it: it.reason_code or None,
}
"""The filters of DescribeInstances."""
