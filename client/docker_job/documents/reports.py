"""Plans, statistics, instances, dead letters, and the API itself."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from docker_job.documents.base import Document


@dataclass(frozen=True, kw_only=True)
class Choice(Document):
    """One instance type in one zone and market that a job would be tried on."""

    place: int = 0
    instance_type: str = ""
    zone: str | None = None
    market: str = "spot"
    hourly_price_usd: float | None = None
    on_demand_hourly_price_usd: float | None = None
    cost_usd: float | None = None
    vcpus: int | None = None
    memory_mib: int | None = None
    gpus: int | None = None
    architecture: str | None = None


@dataclass(frozen=True, kw_only=True)
class Plan(Document):
    """The choices and the cost of a job that is not scheduled yet."""

    scheduled_for: datetime | None = None
    capacity: str = "spot"
    likely_start_at: datetime | None = None
    likely_start_seconds: float | None = None
    expected_seconds: float | None = None
    expected_from: str | None = None
    prices_as_of: datetime | None = None
    cost_usd: float | None = None
    on_demand_cost_usd: float | None = None
    list_prices_as_of: str | None = None
    message: str | None = None
    choices: list[Choice] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Figures(Document):
    """Counts, cost and lateness of a group of jobs; `key` is None for the total and for none."""

    key: str | None = None
    jobs: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    attempts: int = 0
    interruptions: int = 0
    billed_seconds: float = 0
    cost_usd: float | None = None
    unknown_costs: int = 0
    lost_usd: float | None = None
    saved_usd: float | None = None
    lateness_median_seconds: float | None = None
    lateness_p95_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Stats(Document):
    """The figures of the jobs that finished from `since` until `until`."""

    since: datetime | None = None
    until: datetime | None = None
    by: str = "day"
    total: Figures = field(default_factory=Figures)
    groups: list[Figures] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Instance(Document):
    """An instance that exists now, and the job that it is for."""

    instance_id: str
    instance_type: str | None = None
    zone: str | None = None
    market: str | None = None
    hourly_price_usd: float | None = None
    on_demand_hourly_price_usd: float | None = None
    since: datetime | None = None
    job_id: int | None = None
    job_name: str | None = None
    attempt: int | None = None
    phase: str | None = None
    cost_so_far_usd: float | None = None


@dataclass(frozen=True, kw_only=True)
class About(Document):
    """The API: its version and time, and the key that asked (None if none is needed yet)."""

    version: str = ""
    now: datetime | None = None
    key: dict[str, str] | None = None
    compute: str | None = None
    timezone: str = "UTC"
    limits: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DeadLetter(Document):
    """An event whose handler failed; `body` only in a single one."""

    event_id: str
    service: str = ""
    place: str = ""
    state: str = ""
    event: str = ""
    job_id: int | None = None
    tries: int | None = None
    error: str | None = None
    since: datetime | None = None
    body: str | None = None


@dataclass(frozen=True, kw_only=True)
class DeadLetters(Document):
    """Dead letters, how many there are in all, and when each service last reported its own."""

    as_of: dict[str, datetime | None] = field(default_factory=dict)
    total: int = 0
    letters: list[DeadLetter] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Totals(Document):
    """The answer of `GET /totals`, as it is: `raw`."""
