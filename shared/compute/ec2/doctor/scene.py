"""The subject of the checks: the settings that the launcher and the reaper have."""

from dataclasses import dataclass
from typing import Literal

from shared.clock import Clock
from shared.compute.ec2.client import Aws
from shared.compute.ec2.doctor.drafts import Drafts
from shared.compute.ec2.settings import Ec2Settings
from shared.compute.port import Offer

Role = Literal["launcher", "reaper"]
ROLES: tuple[Role, ...] = ("launcher", "reaper")


@dataclass(frozen=True)
class Ec2Installation:
    """The settings that matter to the checks."""

    region: str
    deployment: str
    settings: Ec2Settings
    api_url: str
    agent_sha256: str
    roles: tuple[Role, ...] = ROLES
    """The services whose permissions the credentials must have."""
    instance_role_arn: str = ""
    queue_url: str = ""
    api_addresses: tuple[str, ...] = ()
    """Those of the API's name, as this machine resolves it."""


class Scene:
    """An installation with the means to examine it."""

    def __init__(self, installation: Ec2Installation, clock: Clock, aws: Aws) -> None:
        self.has = installation
        self.settings = installation.settings
        self.clock = clock
        self.aws = aws
        self.offer = Offer(deployment=installation.deployment, api_url=installation.api_url)
        self.drafts = Drafts(
            self.aws, clock, installation.settings, self.offer, installation.agent_sha256
        )
