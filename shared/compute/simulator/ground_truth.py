"""What really happened in the virtual cloud, for tests that compare it with what was believed."""

from collections import Counter, defaultdict, deque
from datetime import datetime

import msgspec

REMEMBERED = 100_000


class Call(msgspec.Struct, frozen=True):
    """One call to the cloud: its name, the token or instance id it named, and what came of it."""

    at: datetime
    name: str
    subject: str
    outcome: str


class ContainerRun(msgspec.Struct, kw_only=True):
    """One container's life; `stopped_at` is None while it runs."""

    job_id: int
    attempt: int
    instance_id: str
    started_at: datetime
    stopped_at: datetime | None = None
    exit_code: int | None = None


class GroundTruth:
    """The last 100,000 calls and containers, and sums over all."""

    def __init__(self) -> None:
        self.calls: deque[Call] = deque(maxlen=REMEMBERED)
        self.containers: deque[ContainerRun] = deque(maxlen=REMEMBERED)
        self.instances_by_token: Counter[str] = Counter()
        self.billed_seconds = 0.0
        self.cost_usd = 0.0

    def overlaps(self) -> list[tuple[ContainerRun, ContainerRun]]:
        """Each container that started while an earlier one of its job ran, after that one."""
        by_job: defaultdict[int, list[ContainerRun]] = defaultdict(list)
        for run in self.containers:
            by_job[run.job_id].append(run)
        found: list[tuple[ContainerRun, ContainerRun]] = []
        for runs in by_job.values():
            runs.sort(key=lambda run: run.started_at)
            longest = runs[0]
            for run in runs[1:]:
                if longest.stopped_at is None or longest.stopped_at > run.started_at:
                    found.append((longest, run))
                if longest.stopped_at is not None and (
                    run.stopped_at is None or run.stopped_at > longest.stopped_at
                ):
                    longest = run
        return found
