"""The settings of an installation, read by the readers of the services."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from embedded.secrets import FILE, LocalSecrets
from services.launcher.config import read_api_url
from shared.adapters import agent_sha256, region_of
from shared.compute.api_ca import read_api_ca
from shared.compute.ec2.settings import Ec2Settings, ec2_settings
from shared.settings import BadSetting, Settings


@dataclass(frozen=True)
class Installation:
    """An installation, whatever its instances are."""

    compute_url: str
    deployment: str
    api_url: str
    """Empty: not known to the service whose settings these are."""
    api_ca: str
    """PEM of the authority of the API's certificate; empty: the system's."""
    is_embedded: bool
    """True if all services are one process, with a database of its own."""
    data_dir: Path
    engine: str
    environ: Mapping[str, str]

    @property
    def scheme(self) -> str:
        """The scheme of the compute's URL."""
        return self.compute_url.partition("://")[0]

    @property
    def is_emulated(self) -> bool:
        """True if another endpoint stands for AWS: its instances may be processes anywhere."""
        return bool(self.environ.get("AWS_ENDPOINT_URL"))


@dataclass(frozen=True)
class OnEc2:
    """The settings of the EC2 adapter, and those of other services that must agree with them."""

    region: str
    settings: Ec2Settings
    agent_sha256: str
    instance_role_arn: str
    queue_url: str


def read_installation(settings: Settings, environ: Mapping[str, str]) -> Installation:
    """Read what is common to all kinds. Raises `BadSetting`."""
    embedded = settings.text("DATABASE_URL") is None
    data_dir = Path(settings.text("DATA_DIR", ".data")).absolute()
    deployment = settings.text("DEPLOYMENT") or _kept_deployment(data_dir)
    api_url = ""
    if settings.text("API_URL"):
        api_url = read_api_url(settings)
    elif embedded:
        api_url = f"http://127.0.0.1:{settings.integer('PORT', 8000, least=1, most=65_535)}"
    default = "process://" if embedded else "docker://"
    return Installation(
        compute_url=settings.text("COMPUTE_URL", default),
        deployment=deployment,
        api_url=api_url,
        api_ca=read_api_ca(settings),
        is_embedded=embedded,
        data_dir=data_dir,
        engine=settings.text("DOCKER_HOST", environ.get("DOCKER_HOST", "")),
        environ=environ,
    )


def read_ec2(settings: Settings, installation: Installation) -> OnEc2:
    """Read the settings of the EC2 adapter. Raises `BadSetting`."""
    if not installation.deployment:
        raise BadSetting("DOCKER_JOB_DEPLOYMENT is not set: set it, for example to production")
    path = settings.text("AGENT_PATH")
    return OnEc2(
        region=region_of(installation.compute_url),
        settings=ec2_settings(settings),
        agent_sha256=agent_sha256(Path(path).absolute() if path else None),
        instance_role_arn=settings.text("INSTANCE_ROLE_ARN", ""),
        queue_url=settings.text("INTERRUPTION_QUEUE_URL", ""),
    )


def _kept_deployment(data_dir: Path) -> str:
    """Return the name that `make run` has made, without making one."""
    try:
        kept = msgspec.json.decode((data_dir / FILE).read_bytes(), type=LocalSecrets)
    except (OSError, msgspec.DecodeError):
        return ""
    return kept.deployment


def from_environment() -> tuple[Settings, Installation]:
    """Read the settings of this process. Raises `BadSetting`."""
    settings = Settings(os.environ)
    return settings, read_installation(settings, os.environ)
