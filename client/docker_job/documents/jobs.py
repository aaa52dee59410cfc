"""Jobs and their attempts."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from docker_job.documents.base import FINAL, Document


@dataclass(frozen=True, kw_only=True)
class JobFields(Document):
    """The fields of a job that each of its documents has.

    *env_vars* has None for each value if the key is of the scope `read`, which sees the names.
    """

    id: int
    docker_image: str
    status: str
    phase: str = ""
    name: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    scheduled_for: datetime | None = None
    timezone: str = "UTC"
    command: list[str] | None = None
    entrypoint: list[str] | None = None
    env_vars: dict[str, str | None] = field(default_factory=dict)
    capacity: str = "spot"
    resources: dict[str, Any] = field(default_factory=dict)
    timeout_seconds: int | None = None
    retries: int = 0
    phase_detail: str | None = None
    status_reason: str = ""
    waiting_because: str | None = None
    waiting_until: datetime | None = None
    attempt: int = 1
    runtime: str | None = None
    instance_id: str | None = None
    exit_code: int | None = None
    error_message: str | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    duration_seconds: float | None = None
    cost_usd: float | None = None
    rerun_of: int | None = None
    project: str | None = None
    created_by: str | None = None

    @property
    def is_over(self) -> bool:
        """True once the job has its final status."""
        return self.status in FINAL


@dataclass(frozen=True, kw_only=True)
class ListedJob(JobFields):
    """A job in a list; `attempts` counts them."""

    attempts: int = 0


@dataclass(frozen=True, kw_only=True)
class Attempt(Document):
    """One try to run a job, on one instance."""

    number: int
    phase: str = ""
    phase_detail: str | None = None
    due_at: datetime | None = None
    cause: str | None = None
    exit_code: int | None = None
    error_message: str | None = None
    boot_failed: bool = False
    console_output: str | None = None
    waiting_because: str | None = None
    runtime: str | None = None
    instance_id: str | None = None
    instance_type: str | None = None
    zone: str | None = None
    market: str | None = None
    hourly_price_usd: float | None = None
    on_demand_hourly_price_usd: float | None = None
    interrupted_at: datetime | None = None
    ended_at: datetime | None = None
    instance_gone_at: datetime | None = None
    billed_seconds: int | None = None
    cost_usd: float | None = None
    wasted_usd: float | None = None
    on_demand_usd: float | None = None
    cost_lines: dict[str, float | None] = field(default_factory=dict)
    other_prices: dict[str, float | None] = field(default_factory=dict)
    phases: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Job(JobFields):
    """A job with its attempts."""

    attempts: list[Attempt] = field(default_factory=list)
    budgets: dict[str, Any] = field(default_factory=dict)
    wasted_usd: float | None = None
    on_demand_usd: float | None = None


@dataclass(frozen=True)
class Page:
    """One page of a list; `next_cursor` is None on the last one."""

    jobs: list[ListedJob]
    next_cursor: str | None
