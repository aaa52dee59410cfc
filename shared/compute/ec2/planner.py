"""The plan of a batch: the parameters of its CreateFleet, as JSON.

The planner reads image, types, subnets and template from EC2 and SSM and keeps the answers for a
while; `fleet.py` makes the call, with just these parameters.
"""

import asyncio
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from shared.clock import Clock
from shared.compute.choice import Wanted, architecture_of, wanted_by
from shared.compute.ec2.cache import Cache
from shared.compute.ec2.client import Aws
from shared.compute.ec2.error_rules import IMAGE, SUBNETS
from shared.compute.ec2.fleet_plans import Subnet, charged, fleet_of, one_a_zone, sizes_of
from shared.compute.ec2.instance_types import DescribedType, read_instance_type
from shared.compute.ec2.places import find_places
from shared.compute.ec2.pools import RestingPools
from shared.compute.ec2.settings import AMI_PARAMETERS, Ec2Settings
from shared.compute.ec2.setups import Setup, by_setup, join_fleets
from shared.compute.ec2.shapes import filters
from shared.compute.ec2.template import Contents, ImageVolume, Template
from shared.compute.ec2.user_data import Boot, user_data
from shared.compute.ec2.zone_types import ZoneTypesReader
from shared.compute.port import Misconfigured, Offer, Plan, Rejected
from shared.events.events import Market

IMAGE_SECONDS = 3600.0
NETWORK_SECONDS = 600.0
TYPES_SECONDS = 86_400.0


class Image(Struct, frozen=True, kw_only=True):
    """The image that instances boot."""

    id: str
    root_device: str
    least_gib: int
    others: tuple[ImageVolume, ...] = ()
    """Its volumes beside the root."""


class Planner:
    """Makes plans. *agent_sha256* is the hash by which instances know the agent."""

    def __init__(
        self,
        aws: Aws,
        clock: Clock,
        settings: Ec2Settings,
        resting: RestingPools,
        deployment: str,
        agent_sha256: str,
    ) -> None:
        self._aws = aws
        self._clock = clock
        self._settings = settings
        self._resting = resting
        self._agent_sha256 = agent_sha256
        self._cache = Cache(clock)
        self.template = Template(aws, clock, deployment)
        self.zone_types = ZoneTypesReader(aws, clock)

    async def plan(self, offer: Offer) -> Plan:
        """Make a plan. Raises `Rejected` if it can never succeed, `NoCapacity` if pools rest."""
        sizes = wanted_by(offer.resources, self._settings)
        wanted = replace(sizes, most_vcpus=offer.most_vcpus)
        subnets, types = await asyncio.gather(
            self._cache.get("subnets", NETWORK_SECONDS, self._subnets),
            self._instance_types(wanted, offer.market),
        )
        offered = await self.zone_types.read([each.zone for each in subnets], wanted.names)
        now = self._clock.now()
        places = find_places(
            types, wanted, subnets, offered, self._resting, offer.market, now, offer.avoid
        )
        architecture = architecture_of(places.chosen, wanted)
        plans = []
        for setup, among in by_setup(places.open, architecture).items():
            image = await self._image("gpu" if setup.gpus else architecture)
            contents = self._contents(offer, image, setup)
            version = await self.template.version(contents)
            plan = fleet_of(offer, version, among, self._settings.max_price_usd)
            plans.append(plan | charged(contents.volumes_gib, among) | sizes_of(among))
        return join_fleets(plans) | {"partial": places.partial}

    async def zones(self) -> dict[str, bool]:
        """Return the zones in which it launches, and whether each assigns public addresses."""
        subnets = await self._cache.get("subnets", NETWORK_SECONDS, self._subnets)
        return {each.zone: each.public_ipv4 for each in subnets}

    def forget(self) -> None:
        """Forget all answers: a plan was refused as stale."""
        self._cache.forget()
        self.template.forget()

    def _contents(self, offer: Offer, image: Image, setup: Setup) -> Contents:
        settings = self._settings
        disk_gib = settings.gpu_disk_gib if setup.gpus else settings.disk_gib
        boot = Boot(
            api_url=offer.api_url,
            deployment=offer.deployment,
            agent_sha256=self._agent_sha256,
            max_lifetime_seconds=settings.max_lifetime_seconds,
            session_manager=settings.session_manager,
            api_ca=settings.api_ca,
        )
        return Contents(
            deployment=offer.deployment,
            market=offer.market,
            image_id=image.id,
            root_device=image.root_device,
            disk_gib=max(offer.resources.disk_gib or disk_gib, image.least_gib),
            user_data=user_data(boot),
            instance_profile=settings.instance_profile,
            security_groups=settings.security_groups,
            key_name=settings.key_name,
            standard_credits=setup.takes_credits,
            image_volumes=image.others,
        )

    async def _image(self, kind: str) -> Image:
        return await self._cache.get(f"image {kind}", IMAGE_SECONDS, lambda: self._read_image(kind))

    async def _read_image(self, kind: str) -> Image:
        image_id = self._settings.image_id
        if not image_id:
            if kind not in AMI_PARAMETERS:
                raise Rejected(f"there is no image for {kind}: set DOCKER_JOB_EC2_IMAGE_ID")
            answer = await self._aws.read("GetParameter", service="ssm", Name=AMI_PARAMETERS[kind])
            image_id = answer["Parameter"]["Value"]
        answer = await self._aws.read("DescribeImages", ImageIds=[image_id])
        if not answer["Images"]:
            raise Misconfigured(f"the image {image_id} does not exist", change=IMAGE)
        shown = answer["Images"][0]
        root = shown.get("RootDeviceName") or "/dev/xvda"
        volumes = [
            ImageVolume(
                device=each.get("DeviceName") or "",
                gib=each["Ebs"].get("VolumeSize"),
                kind=each["Ebs"].get("VolumeType") or "",
            )
            for each in shown.get("BlockDeviceMappings") or []
            if each.get("Ebs")  # the others are of instance store, or none
        ]
        return Image(
            id=image_id,
            root_device=root,
            least_gib=max((each.gib or 0 for each in volumes if each.device == root), default=0),
            others=tuple(each for each in volumes if each.device != root),
        )

    async def _subnets(self) -> list[Subnet]:
        if self._settings.subnets:
            asked: dict[str, Any] = {"SubnetIds": list(self._settings.subnets)}
        else:
            asked = {"Filters": filters(default_for_az=["true"])}
        shown = await self._aws.read_all("DescribeSubnets", "Subnets", **asked)
        subnets = [
            Subnet(
                id=each["SubnetId"],
                zone=each["AvailabilityZone"],
                free_addresses=each.get("AvailableIpAddressCount") or 0,
                public_ipv4=bool(each.get("MapPublicIpOnLaunch")),
            )
            for each in shown
        ]
        if not subnets:
            raise Misconfigured(
                "there is no default VPC, so no subnet to launch in", change=SUBNETS
            )
        return one_a_zone(subnets)

    async def _instance_types(self, wanted: Wanted, market: Market) -> dict[str, DescribedType]:
        """Read the types that a job names, or all that may fit."""
        if wanted.names:
            key = "types " + " ".join(sorted(wanted.names))
            asked: dict[str, Any] = {"InstanceTypes": sorted(wanted.names)}
        else:
            key = f"types {wanted.architecture} {market}"
            only = {
                "bare-metal": "false",
                "burstable-performance-supported": "false",
                "supported-usage-class": market,
                "processor-info.supported-architecture": wanted.architecture,
            }
            asked = {"Filters": [{"Name": name, "Values": [each]} for name, each in only.items()]}

        async def ask() -> dict[str, DescribedType]:
            shown = await self._aws.read_all("DescribeInstanceTypes", "InstanceTypes", **asked)
            types = [read_instance_type(each) for each in shown]
            return {each.name: each for each in types}

        return await self._cache.get(key, TYPES_SECONDS, ask)
