"""The compute port: asking some cloud for instances, seeing them, ending them.

    ComputeError
    ├── NoCapacity     these pools have none now: make another offer
    ├── QuotaReached   the account may not have more: wait, and say so
    ├── Throttled      too many calls: back off
    ├── Rejected       it can never succeed: do not retry
    └── Unknown        a timeout or 5xx after a possible effect: repeat the identical call

Each error names what the caller does next; an adapter maps its vendor's errors to these in one
table. `launch` is idempotent by `LaunchRequest.token`: asked again with the same request it returns
the instance that exists, whoever asked first and however the answer was lost. One that has ended
meanwhile is returned as STOPPING or TERMINATED, and never started again.
"""

import enum
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from shared.events import Market


class ComputeError(Exception):
    """Base of what `Compute` reports; never raised as itself."""


class NoCapacity(ComputeError):
    """The pools of this offer have no capacity now. A definite refusal: nothing was launched."""


class QuotaReached(ComputeError):
    """The account's quota is used up. A definite refusal."""


class Throttled(ComputeError):
    """The cloud wants fewer calls. A definite refusal."""


class Rejected(ComputeError):
    """The request can never succeed. The message is the cloud's own."""


class Unknown(ComputeError):
    """No answer, after a possible effect. Only the identical request may follow."""


class LaunchRequest(Struct, frozen=True, kw_only=True):
    """One instance for one attempt. Durable before the cloud is asked; equal ones are one launch.

    `bootstrap_token` is what the agent shows to claim its attempt. It is derived, not stored here
    at rest, and must never be logged.
    """

    token: str
    deployment: str
    job_id: int
    attempt: int
    max_lifetime_seconds: int
    labels: dict[str, str]
    api_url: str
    bootstrap_token: str


class InstanceState(enum.Enum):
    """What the cloud says of an instance now."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    TERMINATED = "terminated"


class Instance(Struct, frozen=True, kw_only=True):
    """An instance as the cloud shows it; `job_id`, `attempt` and `launch_token` are its tags."""

    instance_id: str
    state: InstanceState
    launch_token: str
    job_id: int
    attempt: int
    launched_at: datetime
    instance_type: str
    zone: str
    market: Market
    hourly_price_usd: float
    spot_instance_request_id: str | None = None
    terminated_at: datetime | None = None
    state_reason: str = ""
    spot_interrupted: bool = False


class Compute(Protocol):
    """A cloud. Every method may be called concurrently and again after a crash."""

    name: str

    async def launch(self, requests: Sequence[LaunchRequest]) -> Sequence[Instance | ComputeError]:
        """Launch or adopt one instance a request; the answers are in the order of the requests."""
        ...

    async def terminate(self, instance_ids: Sequence[str]) -> None:
        """Ask for the end of each. Says nothing about whether it has come: `describe` does.

        Ending what is ended, or was never there, is no error. Raises `Throttled` or `Unknown`.
        """
        ...

    async def describe(self, instance_ids: Sequence[str]) -> dict[str, Instance]:
        """What the cloud shows of these.

        An id that is absent from the answer is *not visible now*: neither alive nor gone. A
        terminated instance stays visible for a while, as `TERMINATED`.
        """
        ...

    async def list_instances(self) -> Sequence[Instance]:
        """Every instance of this deployment that the cloud shows, complete or raised `Unknown`."""
        ...

    async def close(self) -> None:
        """Let go of connections and threads. Instances live on."""
        ...
