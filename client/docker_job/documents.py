"""The documents of the API as frozen dataclasses; `raw` holds each one as it came.

A field that an older API does not send has its default; one of a newer API is in `raw` alone.
Times are aware datetimes, money is in USD, None is unknown.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

FINAL = frozenset({"DONE", "FAILED", "CANCELLED"})  # the statuses that a job keeps


@dataclass(frozen=True, kw_only=True)
class Document:
    """A document, as the API sent it."""

    raw: dict[str, Any] = field(repr=False, compare=False, default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class JobFields(Document):
    """The fields of a job that each of its documents has."""

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
    env_vars: dict[str, str] = field(default_factory=dict)
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


@dataclass(frozen=True, kw_only=True)
class LogLine(Document):
    """A line of a followed log.

    *id*: give it as `after` to go on behind this line; of several lines that came together only
    the last has a new one, so that no line is lost (and some may come again).
    *continues*: `split` or `unfinished` if the line goes on, see the API's how-to about logs.
    """

    text: str
    stream: str = "stdout"
    attempt: int = 1
    at: datetime | None = None
    continues: str | None = None
    id: str | None = None


@dataclass(frozen=True, kw_only=True)
class LogEnd(Document):
    """The end of a followed log: the job, or the attempt that was chosen, is over."""

    status: str | None = None
    exit_code: int | None = None
    attempt: int | None = None
    cause: str | None = None
    id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Change(Document):
    """A change of a job's status, attempt, phase or reason. *position*: give it as `after`."""

    id: int
    docker_image: str = ""
    status: str = ""
    phase: str = ""
    name: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    reason: str = ""
    attempt: int = 1
    at: datetime | None = None
    position: str = ""

    @property
    def is_over(self) -> bool:
        """True once the job has its final status."""
        return self.status in FINAL


@dataclass(frozen=True, kw_only=True)
class Reset(Document):
    """Changes were missed, since they are no longer kept: read the list again."""

    message: str = ""
    position: str = ""


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
