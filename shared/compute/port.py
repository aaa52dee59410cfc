"""The compute port: launching, describing and terminating instances of some cloud.

    ComputeError
    ├── NoCapacity     these pools have none now: make another offer
    ├── QuotaReached   the account may not have more: wait, and report it
    ├── Throttled      too many calls: back off
    ├── Deferred       refused for a reason that may pass: wait longer each time, and report it
    ├── Misconfigured  the deployment's settings or account forbid it: wait, report what to change
    ├── Stale          what the plan names does not exist any more: plan again
    ├── Rejected       it can never succeed: do not retry
    └── Unknown        a timeout or 5xx after a possible effect: repeat the identical call

Each error names what the caller does next; an adapter maps its vendor's errors to these in one
table. A launch has two steps: `plan` decides the exact request and has no effect that matters; the
caller makes the plan durable; `launch` then makes just that request. `launch` is idempotent
by the tokens of its batch: called again with the same batch it returns the instances that exist,
even if another replica made the first call or its answer was lost. One that has ended meanwhile is
returned as STOPPING or TERMINATED, and never started again.
"""

import enum
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from msgspec import Struct

from shared.compute.avoided import Avoided
from shared.compute.plan_costs import HasPlanCosts
from shared.events.costs import NOTHING_ELSE, OtherPrices
from shared.events.events import Market
from shared.events.offers import OfferedType, OfferTerms
from shared.events.requirements import Resources


class ComputeError(Exception):
    """Base of the errors of `Compute`; never raised as itself."""

    change = ""
    """What an operator can change so that it passes."""
    in_part = False
    """Whether that is true of some pools alone, and others lack capacity."""


class NoCapacity(ComputeError):
    """The pools of this offer have no capacity now. A definite refusal: nothing was launched."""


class QuotaReached(ComputeError):
    """The account's quota is used up. A definite refusal."""


class Throttled(ComputeError):
    """The cloud limits calls. A definite refusal."""


class Deferred(ComputeError):
    """Refused for a reason that may pass, such as one that the adapter does not know.

    A definite refusal. The message is the cloud's own.
    """


class Misconfigured(ComputeError):
    """The deployment's settings, permissions or account forbid it, whatever a job asks for.

    A definite refusal, and no proof about capacity. The message is the cloud's own, with *change*:
    what an operator can change. No job fails for it.
    """

    def __init__(self, message: str, *, change: str) -> None:
        super().__init__(f"{message} ({change})" if change else message)
        self.change = change


class Stale(ComputeError):
    """The plan names what is gone, or its token is spent: a definite refusal; plan again."""


class Rejected(ComputeError):
    """The request can never succeed. The message is the cloud's own."""


class Unknown(ComputeError):
    """No answer, after a possible effect. Only the identical request may follow."""


class LaunchRequest(Struct, frozen=True, kw_only=True):
    """One instance for one attempt. Durable before the cloud is asked; equal ones are one launch.

    `bootstrap_token` is what the agent shows to claim its attempt, where the adapter can hand it
    to one instance alone. It is derived, empty where the request is stored, and never logged.
    `labels` is empty, except where an earlier release has asked for the launch: the repeated
    request must be identical to that one.
    """

    token: str
    deployment: str
    job_id: int
    attempt: int
    max_lifetime_seconds: int
    api_url: str
    bootstrap_token: str = ""
    market: Market = "spot"
    resources: Resources = Resources()
    labels: dict[str, str] = {}


class Offer(Struct, frozen=True, kw_only=True):
    """All that a plan may depend on. Types above *most_vcpus* are for want of smaller ones."""

    deployment: str
    api_url: str
    market: Market = "spot"
    resources: Resources = Resources()
    tags: dict[str, str] = {}
    """Tags of the instances, for the bill. An adapter without tags leaves them out."""
    avoid: tuple[Avoided, ...] = ()
    most_vcpus: int | None = None


Plan: TypeAlias = dict[str, Any]
"""The exact request to the cloud, as JSON; only the adapter that made it reads it."""


class LaunchBatch(Struct, frozen=True, kw_only=True):
    """Requests of one offer that are launched together.

    A cloud that launches many at once does so under the batch's own *token*: its requests are then
    always the same, in the same order. *repeated*: an earlier call with this token, the first of
    them *age_seconds* ago, may have had an effect.
    """

    token: str
    requests: tuple[LaunchRequest, ...]
    plan: Plan = {}
    repeated: bool = False
    age_seconds: float = 0.0


class PricedOffers(Struct, frozen=True, kw_only=True):
    """All that can be launched now, with its prices, and how the adapter chooses among it."""

    terms: OfferTerms
    types: tuple[OfferedType, ...]


class InstanceState(enum.Enum):
    """The state of an instance as the cloud reports it."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    """It does not run, costs in part, and may start again: terminate it like a running one."""

    TERMINATED = "terminated"


class Instance(Struct, frozen=True, kw_only=True):
    """An instance as the cloud shows it.

    `launch_token` is the token that launched it, of its request or of its batch. `job_id` and
    `attempt` are known only where each instance is launched by itself. `hourly_price_usd` is
    the mean over its life so far. A price is None where it is not known; 0 is free.
    At least `minimum_billed_seconds` are billed. `other_prices`: of its address and its volume, of
    which a cloud may show less later than `launch` knows by its plan.
    """

    instance_id: str
    state: InstanceState
    launch_token: str
    launched_at: datetime
    instance_type: str
    zone: str
    market: Market
    hourly_price_usd: float | None
    job_id: int | None = None
    attempt: int | None = None
    on_demand_hourly_price_usd: float | None = None
    minimum_billed_seconds: int = 0
    other_prices: OtherPrices = NOTHING_ELSE
    spot_instance_request_id: str | None = None
    terminated_at: datetime | None = None
    state_reason: str = ""
    spot_interrupted: bool = False


class NotFound(Struct, frozen=True, kw_only=True):
    """The answer that a cloud has no instance of this id.

    `final`: it is certain, because the cloud is one machine or one process, whose state is read
    itself. Otherwise it proves nothing alone: the cloud is eventually consistent.
    """

    final: bool


NoticeKind = Literal["interruption", "rebalance", "state"]


class Notice(Struct, frozen=True, kw_only=True):
    """A notice of a cloud's own channel about any instance of the account.

    "state" only means that its state changed. *kind* is None for one without use.
    """

    handle: str
    kind: NoticeKind | None
    instance_id: str
    noticed_at: datetime | None


class Notices(Protocol):
    """A cloud's channel of notices: at least once, in any order."""

    async def receive(self) -> Sequence[Notice]:
        """Wait a short time for notices, and return some. Raises a `ComputeError`."""
        ...

    async def done(self, notices: Sequence[Notice]) -> None:
        """Acknowledge these: they do not come again. Raises a `ComputeError`."""
        ...


@runtime_checkable
class Prepared(Protocol):
    """A compute that prepares its machine, when the launcher starts and each minute after that."""

    async def prepare(self) -> None:
        """Prepare it. A failure is logged; it does not stop the launcher."""
        ...


@runtime_checkable
class HasConsoles(Protocol):
    """A compute that can read what an instance has printed since it was launched."""

    async def console_output(self, instance_id: str) -> str | None:
        """Return the end of what it has printed; None: nothing is known of that (yet).

        Any program on the instance may have printed it. Raises a `ComputeError`.
        """
        ...


class Compute(HasPlanCosts, Protocol):
    """A cloud. Every method may be called concurrently and again after a crash."""

    name: str
    gathers: bool
    """True if a batch is one call, so that it pays to wait shortly for more of the same."""

    async def plan(self, offer: Offer) -> Plan:
        """Decide the exact request. Raises a `ComputeError`; nothing was launched."""
        ...

    async def launch(self, batch: LaunchBatch) -> Sequence[Instance | ComputeError]:
        """Launch or adopt one instance a request; return the outcomes in the order of requests.

        An error that is raised is the outcome of each.
        """
        ...

    async def price_offers(self) -> PricedOffers:
        """Read what can be launched now, and its prices. Raises a `ComputeError`.

        It may take a minute, and calls that change nothing; a price that is not known is None.
        """
        ...

    async def terminate(self, instance_ids: Sequence[str]) -> None:
        """Ask for the end of each; `describe` shows whether it has come.

        An instance that has ended, or never existed, is no error. Raises `Throttled` or `Unknown`.
        """
        ...

    async def describe(self, instance_ids: Sequence[str]) -> dict[str, Instance]:
        """Return what the cloud shows of these, by id.

        An id that is absent from the answer is *not visible now*: neither alive nor terminated. A
        terminated instance stays visible for a while, as `TERMINATED`.
        """
        ...

    async def confirm(self, instance_ids: Sequence[str]) -> dict[str, Instance | NotFound]:
        """Ask for each by its id, and return what the cloud answers: no list shows them.

        An id that is absent from the result had no answer. Raises `Throttled` or `Unknown`.
        """
        ...

    async def list_instances(self) -> Sequence[Instance]:
        """List all instances of this deployment. Complete, or raises `Unknown`."""
        ...

    async def close(self) -> None:
        """Close connections and threads. Instances go on."""
        ...
