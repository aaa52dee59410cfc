"""The settings of agents' calls."""

from dataclasses import dataclass, field

from services.api.agents.sts_identity import IdentityConfig
from services.api.jobs.model import JobRules
from services.api.secrets.sealing import SecretKeys


@dataclass(frozen=True)
class AgentSettings:
    """The settings that an agent gets with its claim. Durations in seconds, sizes in bytes.

    *pull_retry_seconds*: for so long an attempt tries a failed pull again. *local_images*: an image
    that only the agent's machine has is used after a failed pull.
    """

    heartbeat_seconds: float
    stop_grace_seconds: int
    interruption_margin_seconds: int
    metadata_poll_seconds: float
    log_batch_seconds: float
    log_limit_bytes: int
    error_tail_lines: int
    pull_retry_seconds: float
    local_images: bool


@dataclass(frozen=True)
class AgentsConfig:
    """The settings of agents' calls. *identity* is None if instances have bootstrap tokens."""

    deployment: str
    token_key: str = field(repr=False)
    rules: JobRules
    agent: AgentSettings
    identity: IdentityConfig | None
    secret_keys: SecretKeys | None
