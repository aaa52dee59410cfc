"""Jobs and attempts as values, and the one declaration of their states and transitions.

    held ─▶ scheduled ─▶ delayed ─▶ booting ─▶ pulling ─▶ running ─▶ stopping ─▶ ended

An attempt only moves to the right, and may skip states: events arrive in any order, so one that
would move it to the left is outdated and changes nothing. "Launching" is no state: `views.py`
derives it from `due_at`. `docs/states.md` draws both machines with the cause of each transition.
"""

from datetime import datetime, timedelta
from typing import Literal, get_args

from msgspec import Struct, field
from msgspec.structs import replace

from services.api.jobs.fields import JobFields
from shared.events.causes import Cause
from shared.events.costs import CostLines, OtherPrices
from shared.events.events import Event, Market
from shared.events.requirements import DEFAULT_PROJECT, Requirements
from shared.states import Transitions, settled

Status = Literal["SCHEDULED", "RUNNING", "CANCELLED", "DONE", "FAILED"]
STATUSES: tuple[str, ...] = get_args(Status)
STATUS_TRANSITIONS: Transitions = {
    "SCHEDULED": frozenset({"RUNNING", "CANCELLED", "DONE", "FAILED"}),
    "RUNNING": frozenset({"SCHEDULED", "CANCELLED", "DONE", "FAILED"}),
    "CANCELLED": frozenset(),
    "DONE": frozenset(),
    "FAILED": frozenset(),
}
TERMINAL = settled(STATUS_TRANSITIONS)

State = Literal[
    "held",  # the container of an earlier attempt is not yet known to have stopped
    "scheduled",  # not due yet
    "requested",  # due, as an earlier release recorded it; read, no longer written
    "delayed",  # the launcher is waiting for capacity or quota
    "booting",  # an instance exists
    "pulling",  # the agent pulls the image
    "running",  # the container runs
    "stopping",  # the container has been sent SIGTERM
    "ended",
]
STATES: tuple[str, ...] = get_args(State)
ORDER = {state: place for place, state in enumerate(STATES)}
STATE_TRANSITIONS: Transitions = {
    state: frozenset(STATES[place + 1 :]) for state, place in ORDER.items()
}

_OTHER_PHASES = {"held": "waiting", "requested": "launching", "delayed": "waiting"}
PHASES = {state: _OTHER_PHASES.get(state, state) for state in STATES if state != "ended"}
"""The phase that users see for each state of the current attempt."""


LIFETIME_PASSED = "its maximum lifetime passed"
"""The message of an attempt that ended with the longest lifetime of its instance."""


class Job(JobFields, frozen=True, kw_only=True):
    """A row of `jobs`. `attempt` is the number of its current attempt.

    `rerun_of`: the id of the job that it runs again. `created_by`: the prefix of the API key that
    scheduled it, None if there was no key; `project`: that of the key.
    """

    id: int
    secret_env: list[str] = field(default_factory=list)
    rerun_of: int | None = None
    project: str = DEFAULT_PROJECT
    created_by: str | None = None
    status: Status
    attempt: int
    trace: str
    created_at: datetime
    exit_code: int | None = None
    error_message: str | None = None
    finished_at: datetime | None = None


class Attempt(Struct, frozen=True, kw_only=True):
    """A row of `attempts`: one try at running a job. `sql/` describes its columns."""

    job_id: int
    number: int
    state: State
    due_at: datetime
    entered: dict[str, datetime]
    phase_detail: str | None = None
    waiting_because: str | None = None
    waiting_until: datetime | None = None
    to_change: str | None = None
    delayed_at: datetime | None = None
    check_at: datetime | None = None
    token_hash: bytes | None = None
    runtime: Literal["docker", "simulated"] | None = None
    heartbeat_at: datetime | None = None
    interrupted_at: datetime | None = None
    instance_id: str | None = None
    instance_type: str | None = None
    zone: str | None = None
    market: Market | None = None
    hourly_price_usd: float | None = None
    spot_instance_request_id: str | None = None
    dies_by: datetime | None = None
    container_stopped: bool = False
    cause: Cause | None = None
    exit_code: int | None = None
    error_message: str | None = None
    ended_at: datetime | None = None
    instance_gone_at: datetime | None = None
    billed_seconds: int | None = None
    cost_usd: float | None = None
    on_demand_hourly_price_usd: float | None = None
    other_prices: OtherPrices | None = None
    cost_lines: CostLines | None = None
    rebalance_at: datetime | None = None
    launched_at: datetime | None = None
    launch_recorded_at: datetime | None = None
    stop_by: datetime | None = None
    retry_because: str | None = None
    boot_failed: bool | None = None
    excused: bool | None = None
    log_seq: int = 0
    log_bytes: int = 0
    log_lines: int = 0
    log_head_bytes: int = 0
    log_head_lines: int = 0

    @property
    def running_at(self) -> datetime | None:
        """The time when its container began to run."""
        return self.entered.get("running")


class JobWithAttempts(Struct, frozen=True):
    """A job with all of its attempts in the order of their numbers, as of one time.

    One attempt is the job's current one. Beside it there may be its replacement: a later attempt
    that has not ended, launched early because the current one's instance is being reclaimed. It
    boots, but may not claim the job before every earlier container is known to have stopped.
    """

    job: Job
    attempts: tuple[Attempt, ...]

    @property
    def current(self) -> Attempt:
        """The one attempt whose reports change the job."""
        return self.attempt(self.job.attempt)

    @property
    def replacement(self) -> Attempt | None:
        """The attempt that takes over if the current one does not finish the job."""
        later_ones = (each for each in self.attempts if each.number > self.job.attempt)
        return next((each for each in later_ones if each.state != "ended"), None)

    def attempt(self, number: int) -> Attempt:
        """Return attempt *number*. Raises KeyError."""
        for each in self.attempts:
            if each.number == number:
                return each
        raise KeyError(number)

    def with_attempt(self, changed: Attempt) -> "JobWithAttempts":
        """Return the same job with *changed* in its place."""
        others = (each for each in self.attempts if each.number != changed.number)
        attempts = sorted((*others, changed), key=lambda each: each.number)
        return JobWithAttempts(self.job, tuple(attempts))

    def unstopped_before(self, number: int) -> Attempt | None:
        """Return the earliest attempt before *number* whose container may still run."""
        earlier = (each for each in self.attempts if each.number < number)
        return next((each for each in earlier if not each.container_stopped), None)


class JobRules(Struct, frozen=True, kw_only=True):
    """The settings that decisions need. Durations in seconds.

    A `…_budget` is a retry limit: how many further attempts one kind of failure may start. That of
    pulls is reached when `pull_budget_seconds` have passed too. `free_first_hour`: an instance
    under notice in its first hour is left to the cloud, which bills nothing then (`first_hour.py`).
    """

    max_lifetime_seconds: int = 86_400
    interruption_budget: int = 20
    pull_budget: int = 3
    pull_budget_seconds: int = 1200
    pull_refused_budget: int = 1
    retry_first_seconds: float = 5
    boot_seconds: int = 900
    boot_limit: int = 2
    boot_failures_pause: int = 5
    silence_seconds: int = 60
    stop_grace_seconds: int = 10
    heartbeat_seconds: float = 5
    reschedule_delay_seconds: int = 0
    replace_on_rebalance: bool = False
    wipe_secrets: bool = True
    free_first_hour: bool = False
    cost_tags: tuple[str, ...] = ()
    """The names of the labels that become tags of the instance."""


class AttemptEnding(Struct, frozen=True, kw_only=True):
    """The end of an attempt.

    `container_stopped`: its container is known to have stopped. `for_good`: a retry will hardly
    help (the registry has no such image, or denies it). `boot_failed`: no agent has claimed it.
    `excused`: it counts against no limit of the job. `to_change`: what an operator can change.
    `account_fault`: the cloud names a fault that its pool has in common with all others.
    """

    cause: Cause
    message: str | None = None
    exit_code: int | None = None
    container_stopped: bool
    for_good: bool = False
    boot_failed: bool = False
    excused: bool = False
    to_change: str | None = None
    account_fault: bool = False


class Step(Struct, frozen=True, kw_only=True):
    """The changes of one decision: the job, some of its attempts, and the events to publish.

    `wipe_secrets`: the job is over, so the values of its `secret_env` are deleted.
    """

    job: Job
    attempts: tuple[Attempt, ...]
    events: tuple[Event, ...] = ()
    wipe_secrets: bool = False


def advance(attempt: Attempt, state: State, now: datetime) -> Attempt:
    """Move *attempt* to *state* if that is to the right of its own; else return it unchanged."""
    if ORDER[state] <= ORDER[attempt.state]:
        return attempt
    return replace(
        attempt,
        state=state,
        entered={**attempt.entered, state: now},
        phase_detail=None,
        waiting_because=None,
        waiting_until=None,
    )


def first_attempt(job_id: int, due_at: datetime, now: datetime) -> Attempt:
    """Make the attempt that a newly accepted job starts with."""
    return Attempt(
        job_id=job_id, number=1, state="scheduled", due_at=due_at, entered={"scheduled": now}
    )


def requirements_of(job: Job, rules: JobRules) -> Requirements:
    """Return the needs of the job's instance; its lifetime leaves an hour around the time limit."""
    lifetime = rules.max_lifetime_seconds
    if job.timeout_seconds is not None:
        lifetime = min(lifetime, job.timeout_seconds + 3600 + (job.stop_grace_seconds or 0))
    return Requirements(
        max_lifetime_seconds=lifetime,
        resources=job.resources,
        capacity=job.capacity,
        spot_wait_seconds=job.spot_wait_seconds,
        tags={name: job.labels[name] for name in rules.cost_tags if name in job.labels},
        project=job.project,
        created_by=job.created_by,
    )


def stop_grace_of(job: Job, rules: JobRules) -> int:
    """Return the seconds from the stop signal to SIGKILL: the job's own, or the deployment's."""
    own = job.stop_grace_seconds
    return rules.stop_grace_seconds if own is None else own


def later(now: datetime, seconds: float) -> datetime:
    """Return the time *seconds* after *now*."""
    return now + timedelta(seconds=seconds)
