"""The settings of agents' calls."""

from dataclasses import dataclass, field, replace

from services.api.agents.sts_identity import IdentityConfig
from services.api.jobs.model import Job, JobRules
from services.api.secrets.sealing import SecretKeys

LONGEST_MARGIN_SECONDS = 110
"""EC2's notice is two minutes, less the time until the agent sees it."""


@dataclass(frozen=True)
class AgentSettings:
    """The settings that an agent gets with its claim. Durations in seconds, sizes in bytes.

    *pull_retry_seconds*: for so long an attempt tries a failed pull again. *local_images*: an image
    that only the agent's machine has is used after a failed pull. *registries_refused*: networks in
    which no registry may be, but for the hosts and networks of *registries_allowed*.
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
    registries_refused: tuple[str, ...] = ()
    registries_allowed: tuple[str, ...] = ()

    def of_job(self, job: Job) -> "AgentSettings":
        """Return the settings for *job*, with its own grace.

        After an interruption notice the container is stopped earlier by what its grace is longer,
        as far as the notice allows. Agents of earlier releases know these settings too.
        """
        if job.stop_grace_seconds is None:
            return self
        longer = max(0, job.stop_grace_seconds - self.stop_grace_seconds)
        margin = self.interruption_margin_seconds
        return replace(
            self,
            stop_grace_seconds=job.stop_grace_seconds,
            interruption_margin_seconds=max(margin, min(margin + longer, LONGEST_MARGIN_SECONDS)),
        )


@dataclass(frozen=True)
class AgentsConfig:
    """The settings of agents' calls. *identity* is None if instances have bootstrap tokens."""

    deployment: str
    token_key: str = field(repr=False)
    rules: JobRules
    agent: AgentSettings
    identity: IdentityConfig | None
    secret_keys: SecretKeys | None
