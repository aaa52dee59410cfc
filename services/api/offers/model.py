"""Plans of jobs, and what they are made from, as values."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from services.api.submission.request import JobRequest
from shared.events.events import Market
from shared.events.offers import OfferedType, OfferTerms
from shared.events.requirements import Capacity

ExpectedFrom = Literal["expected_seconds", "timeout_seconds", "max_lifetime_seconds"]


class Expectation(Struct, frozen=True, kw_only=True):
    """The part of `POST /plan` that `POST /schedule` does not have."""

    expected_seconds: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(
            description="How long the container will run; left out: `timeout_seconds`, or the "
            "longest life of an instance.",
            examples=[600],
        ),
    ] = None


class PlanRequest(Struct, frozen=True, kw_only=True):
    """A job that is not scheduled, and how long its container is expected to run."""

    job: JobRequest
    expected_seconds: int | None = None


class KnownOffers(Struct, frozen=True, kw_only=True):
    """The newest offers of which all parts have come."""

    priced_at: datetime
    terms: OfferTerms
    types: tuple[OfferedType, ...]


class RecentStart(Struct, frozen=True, kw_only=True):
    """The start of a finished job: seconds from its due time, and from its instance."""

    wait_seconds: float
    boot_seconds: float | None


class PlannedChoice(Struct, frozen=True, kw_only=True):
    """One type in one zone on one market, and the cost of the job there."""

    place: int
    instance_type: str
    zone: str
    market: Market
    hourly_price_usd: float | None
    on_demand_hourly_price_usd: float | None
    cost_usd: float | None
    vcpus: int
    memory_mib: int
    gpus: int
    architecture: str


class JobPlan(Struct, frozen=True, kw_only=True):
    """The answer of `POST /plan`."""

    scheduled_for: datetime
    capacity: Capacity
    likely_start_at: datetime | None = None
    likely_start_seconds: float | None = None
    likely_start_from: Literal["recent_jobs", "default"] | None = None
    expected_seconds: int
    expected_from: ExpectedFrom
    prices_as_of: datetime | None
    cost_usd: float | None
    on_demand_cost_usd: float | None
    list_prices_as_of: str | None = None
    message: str | None
    choices: tuple[PlannedChoice, ...]
