"""The settings of the EC2 adapter: `DOCKER_JOB_EC2_…`, described in docs/ec2.md."""

import re
from typing import Literal, get_args

from msgspec import Struct

from shared.compute.api_ca import read_api_ca
from shared.events.requirements import Architecture
from shared.settings import PREFIX, BadSetting, Settings

AMI_PARAMETERS: dict[str, str] = {
    "x86_64": "/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id",
    "arm64": "/aws/service/ecs/optimized-ami/amazon-linux-2023/arm64/recommended/image_id",
    "gpu": "/aws/service/ecs/optimized-ami/amazon-linux-2023/gpu/recommended/image_id",
}
"""Images with Docker and Python on them: time to install them at boot is paid for.
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/retrieve-ecs-optimized_AMI.html
"""

PriceSource = Literal["auto", "api", "table", "none"]
PRICE_SOURCES: dict[str, PriceSource] = {each: each for each in get_args(PriceSource)}

LEAST_PRICE_USD = 0.001
"""EC2 refuses a maximum price below it.
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_FleetLaunchTemplateOverridesRequest.html
"""

_INSTANCE_TYPE = re.compile(r"[a-z0-9-]+\.[a-z0-9-]+")


class Ec2Settings(Struct, frozen=True, kw_only=True):
    """Frozen settings; an empty one means AWS's own default."""

    instance_profile: str = ""
    """Name or ARN of the profile whose role identifies the instance that claims a job."""

    subnets: tuple[str, ...] = ()
    """Empty: those of the default VPC, one a zone."""

    security_groups: tuple[str, ...] = ()
    """Empty: the VPC's default group."""

    instance_types: tuple[str, ...] = ()
    """The types for a job that names none; empty: by `vcpus` and `memory_mib`."""

    vcpus: int = 2
    memory_mib: int = 4096
    """The least of an instance for a job that names no size."""

    architecture: Architecture = "x86_64"
    disk_gib: int = 30
    """Of the root volume; never less than the image's own."""

    gpu_disk_gib: int = 100
    """The same for instances with GPUs, whose images have CUDA in them and often 10 GB and more."""

    image_id: str = ""
    """Instead of those in `AMI_PARAMETERS`; of the architecture above."""

    key_name: str = ""
    """An SSH key pair, to log in to an instance."""

    session_manager: bool = False
    """Session Manager's agent runs, so that an operator can log in; off: as the image has it."""

    max_price_usd: float | None = None
    """An hour. None: up to the on-demand price, which interrupts least."""

    pool_rest_seconds: float = 180
    """The rest of a pool that had no capacity."""

    prices: PriceSource = "auto"
    """The source of list prices; see `list_prices.py`."""

    api_ca: str = ""
    """PEM of the authority by which agents verify the API; empty: their system's."""

    max_lifetime_seconds: int = 86_400
    """Every instance powers itself off after it, whatever happens."""

    @property
    def own_image(self) -> bool:
        """True if instances boot an image of the operator's choice."""
        return bool(self.image_id)


def ec2_settings(settings: Settings) -> Ec2Settings:
    """Read `DOCKER_JOB_EC2_…` and the maximum lifetime. Raises `BadSetting`."""
    defaults = Ec2Settings()
    price = settings.number("EC2_MAX_PRICE_USD", 0, most=1000)
    if price and price <= LEAST_PRICE_USD:
        raise BadSetting(
            f"{PREFIX}EC2_MAX_PRICE_USD is {price}: EC2 takes a maximum of more than "
            f"{LEAST_PRICE_USD} USD an hour; leave it empty for none"
        )
    prices = settings.choice("EC2_PRICES", defaults.prices, tuple(PRICE_SOURCES))
    architecture = settings.choice("EC2_ARCHITECTURE", defaults.architecture, ("x86_64", "arm64"))
    return Ec2Settings(
        instance_profile=settings.text("EC2_INSTANCE_PROFILE", ""),
        subnets=_names(settings, "EC2_SUBNETS", re.compile(r"subnet-[0-9a-f]+")),
        security_groups=_names(settings, "EC2_SECURITY_GROUPS", re.compile(r"sg-[0-9a-f]+")),
        instance_types=_names(settings, "EC2_INSTANCE_TYPES", _INSTANCE_TYPE),
        vcpus=settings.integer("EC2_VCPUS", defaults.vcpus, least=1, most=1024),
        memory_mib=settings.integer("EC2_MEMORY_MIB", defaults.memory_mib, least=1),
        architecture="arm64" if architecture == "arm64" else "x86_64",
        disk_gib=settings.integer("EC2_DISK_GIB", defaults.disk_gib, least=1, most=65_536),
        gpu_disk_gib=settings.integer(
            "EC2_GPU_DISK_GIB", defaults.gpu_disk_gib, least=1, most=65_536
        ),
        image_id=settings.text("EC2_IMAGE_ID", ""),
        key_name=settings.text("EC2_KEY_NAME", ""),
        session_manager=settings.choice("EC2_SESSION_MANAGER", "off", ("on", "off")) == "on",
        max_price_usd=price or None,
        pool_rest_seconds=settings.number("EC2_POOL_REST_SECONDS", defaults.pool_rest_seconds),
        prices=PRICE_SOURCES[prices],
        api_ca=read_api_ca(settings),
        max_lifetime_seconds=settings.integer("MAX_LIFETIME_SECONDS", 86_400, least=60),
    )


def _names(settings: Settings, name: str, form: re.Pattern[str]) -> tuple[str, ...]:
    """Read a list separated by commas or blanks, each of the *form* of such a name."""
    names = tuple((settings.text(name) or "").replace(",", " ").split())
    wrong = [each for each in names if not form.fullmatch(each)]
    if wrong:
        raise BadSetting(
            f"{PREFIX}{name} has {wrong[0]!r}: it must be a list like {form.pattern}, "
            "separated by commas"
        )
    return names
