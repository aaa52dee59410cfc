"""The verdict on one outage: what happened compared with what was asked for. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from drill.api import TERMINAL, Job
from drill.plan import PlannedJob

MOST_NOTES = 12


@dataclass(frozen=True)
class Run:
    """One instance on which a job's container may have started."""

    job_id: int
    attempt: int
    starts: int
    """How often the job's container really started there."""
    unread: bool = False
    """Its log could not be read: nobody knows."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """All that is known when the outage and the wait after it are over."""

    planned: Sequence[PlannedJob]
    accepted: Mapping[str, int]
    """The ids of the accepted jobs, by key."""
    refusals: Mapping[str, str] = field(default_factory=dict)
    """The answers to the jobs that were refused, by key."""
    jobs: Mapping[int, Job]
    """Every job of this outage that the API shows, in the form of `GET /status/{id}`."""
    logs: Mapping[int, str]
    runs: Sequence[Run]
    """Every instance of this outage's jobs."""
    living: Sequence[int]
    """The job of each of its containers that still runs on the engine."""
    lost_events: int
    recovery_seconds: float | None


@dataclass(frozen=True)
class Figures:
    """The numbers of one row: all but the seconds must be 0."""

    lost: int
    twice: int
    results: int
    leaked: int
    events: int
    recovery_seconds: float | None
    """None: not recovered in time."""
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def good(self) -> bool:
        """Return whether nothing was lost, doubled or left over, and it has recovered."""
        counts = (self.lost, self.twice, self.results, self.leaked, self.events)
        return not any(counts) and self.recovery_seconds is not None


def judge(seen: Observation) -> Figures:
    """Count what was lost, run twice or left over; name the first of them."""
    notes: list[str] = []
    lost = _lost(seen, notes)
    twice = _twice(seen, notes)
    results = _results(seen, notes)
    leaked = _leaked(seen, notes)
    if seen.lost_events:
        notes.append(f"{seen.lost_events} events had no effect: outbox against inbox")
    if seen.recovery_seconds is None:
        notes.append("it did not recover in time")
    more = len(notes) - MOST_NOTES
    shown = [*notes[:MOST_NOTES], f"… and {more} more"] if more > 0 else notes
    return Figures(
        lost, twice, results, leaked, seen.lost_events, seen.recovery_seconds, tuple(shown)
    )


def _lost(seen: Observation, notes: list[str]) -> int:
    """Count the jobs that were not accepted, are not terminal, or ended in the wrong status."""
    count = 0
    for planned in seen.planned:
        job_id = seen.accepted.get(planned.key)
        job = None if job_id is None else seen.jobs.get(job_id)
        if job_id is None:
            text = f"was not accepted: {seen.refusals.get(planned.key, 'no answer in time')}"
        elif job is None:
            text = "is accepted, and the API does not show it"
        elif job["status"] not in TERMINAL:
            text = f"is {job['status']} ({job['phase']}): {job['waiting_because']}"
        elif job["status"] != planned.status:
            text = f"is {job['status']} and not {planned.status}: {job['error_message']}"
        else:
            continue
        count += 1
        notes.append(f"job {job_id} ({planned.key}) {text}")
    return count


def _twice(seen: Observation, notes: list[str]) -> int:
    """Count the jobs whose container started twice or was given up, or that were accepted twice."""
    count = 0
    starts: dict[int, int] = {}
    ran: set[tuple[int, int]] = set()
    for run in seen.runs:
        if run.unread:
            notes.append(f"job {run.job_id}: the log of an instance could not be read")
            count += 1
        starts[run.job_id] = starts.get(run.job_id, 0) + run.starts
        if run.starts:
            ran.add((run.job_id, run.attempt))
    wanted = set(seen.accepted.values())
    for job_id, job in seen.jobs.items():
        causes = {each["number"]: each["cause"] for each in job["attempts"]}
        given_up = [n for n, cause in causes.items() if cause == "lost" and (job_id, n) in ran]
        if starts.get(job_id, 0) > 1:
            text = f"its container started {starts[job_id]} times"
        elif given_up:
            text = f"attempt {given_up[0]} was given up as lost while its container ran"
        elif job_id not in wanted:
            text = "it was accepted twice"
        else:
            continue
        count += 1
        notes.append(f"job {job_id} ({job['name']}): {text}; its attempts ended {causes}")
    return count


def _results(seen: Observation, notes: list[str]) -> int:
    """Count the terminal jobs whose exit code or output the API does not show."""
    count = 0
    for planned in seen.planned:
        job = seen.jobs.get(seen.accepted.get(planned.key, 0))
        if job is None or job["status"] not in TERMINAL:
            continue  # it is lost, and counted there
        missing = []
        if job["exit_code"] != planned.exit_code:
            missing.append(f"its exit code is {job['exit_code']} and not {planned.exit_code}")
        if planned.line not in seen.logs.get(job["id"], "").splitlines():
            missing.append("its output is missing")
        if missing:
            count += 1
            notes.append(f"job {job['id']} ({planned.key}): {', '.join(missing)}")
    return count


def _leaked(seen: Observation, notes: list[str]) -> int:
    """Count the instances that run although their job does not need them."""
    count = 0
    for job_id in seen.living:
        job = seen.jobs.get(job_id)
        if job is not None and job["status"] not in TERMINAL:
            continue  # the job is lost: its instance may be what it still waits for
        count += 1
        notes.append(f"an instance of job {job_id} still runs")
    return count
