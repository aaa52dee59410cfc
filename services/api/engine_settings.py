"""Settings of the engines that run jobs: whose images they use, and which registries they may call.

Both depend on whose machine it is: one's own, an instance of EC2, or one that jobs of others share.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit

from services.api.http.hosts import canonical, is_loopback
from services.api.submission.registries import (
    LINK_LOCAL,
    LOOPBACK,
    PRIVATE,
    SETTING,
    BadRegistry,
    RegistryRules,
    read_allowed,
)
from shared.settings import PREFIX, BadSetting, Settings


@dataclass(frozen=True)
class EngineSettings:
    """The settings. *local_images*: an image that only the agent's machine has may be used."""

    local_images: bool
    registries: RegistryRules

    def described(self) -> tuple[str, str]:
        """Return two lines for the start."""
        used = "used after a failed pull" if self.local_images else "not used"
        rules = self.registries
        allowed = f", but for {', '.join(rules.allowed)}" if rules.allowed else ""
        return (
            f"images that only the instance's machine has are {used} ({PREFIX}LOCAL_IMAGES)",
            f"{rules.described} are refused{allowed} ({SETTING})",
        )


def read_engine(settings: Settings, compute_url: str) -> EngineSettings:
    """Read the settings; *compute_url* is the default of the setting. Raises `BadSetting`."""
    return EngineSettings(
        _read_local_images(settings, compute_url), _read_registries(settings, compute_url)
    )


def _read_local_images(settings: Settings, compute_url: str) -> bool:
    """Read whether an image that only the agent's machine has is used after a failed pull.

    That is meant for images built where the jobs run, by whoever may use the API: by default on a
    machine of one's own alone.
    """
    compute = _compute(settings, compute_url)
    is_own = compute == "process" or (compute == "docker" and _is_served_on_loopback(settings))
    return settings.choice("LOCAL_IMAGES", "yes" if is_own else "no", ("yes", "no")) == "yes"


def _read_registries(settings: Settings, compute_url: str) -> RegistryRules:
    """Read which registries jobs may name. Raises `BadSetting`.

    All of them with `process://` and an API on loopback, as `make run` has it: whoever reaches that
    API can pull by hand. On EC2 private addresses too: those of an endpoint of ECR are private
    (https://docs.aws.amazon.com/AmazonECR/latest/userguide/vpc-endpoints.html).
    """
    compute = _compute(settings, compute_url)
    has_role = bool(settings.text("INSTANCE_ROLE_ARN"))
    refused: tuple[str, ...] = (LOOPBACK, LINK_LOCAL, PRIVATE)
    if compute == "process" and _is_served_on_loopback(settings):
        refused = ()
    elif compute == "ec2" or (not compute and has_role):  # COMPUTE_URL may not be set here
        refused = (LOOPBACK, LINK_LOCAL)
    try:
        return RegistryRules(refused, read_allowed(settings.text("REGISTRIES_ALLOWED") or ""))
    except BadRegistry as error:
        raise BadSetting(f"{SETTING} has {error}") from None


def _compute(settings: Settings, compute_url: str) -> str:
    return urlsplit(settings.text("COMPUTE_URL", compute_url)).scheme


def _is_served_on_loopback(settings: Settings) -> bool:
    host = settings.text("PUBLISHED_HOST") or settings.text("HOST", "127.0.0.1")
    return is_loopback(canonical(host))
