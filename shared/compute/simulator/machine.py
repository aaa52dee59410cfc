"""One virtual instance, and the record of what really happened in the virtual cloud."""

import asyncio
import hashlib
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Coroutine
from datetime import datetime

import msgspec

from shared.clock import Clock
from shared.compute.port import Instance, InstanceState, LaunchRequest
from shared.compute.simulator.faults import SimulatedPool

RETAINED_RECORDS = 100_000


class CallRecord(msgspec.Struct, frozen=True):
    """One call to the cloud: its name, the token or instance id it named, and its outcome."""

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
    """The last 100,000 calls and containers, and sums over all; for tests and `GET /truth`."""

    def __init__(self) -> None:
        self.calls: deque[CallRecord] = deque(maxlen=RETAINED_RECORDS)
        self.containers: deque[ContainerRun] = deque(maxlen=RETAINED_RECORDS)
        self.instances_by_token: Counter[str] = Counter()
        self.billed_seconds = 0.0
        self.cost_usd = 0.0

    def overlaps(self) -> list[tuple[ContainerRun, ContainerRun]]:
        """Return each container that started while an earlier one of its job ran, after that."""
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


class VirtualMachine:
    """A virtual instance. A terminated one has no tasks and takes little memory."""

    __slots__ = ("container", "instance", "interrupted_at", "notice", "pool", "request", "tasks")

    def __init__(
        self, request: LaunchRequest, instance_id: str, pool: SimulatedPool, now: datetime
    ) -> None:
        self.request = msgspec.structs.replace(request, bootstrap_token="")
        self.pool = pool
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.notice: asyncio.Event | None = None
        self.interrupted_at: datetime | None = None
        self.container: ContainerRun | None = None
        self.instance = Instance(
            instance_id=instance_id,
            state=InstanceState.PENDING,
            launch_token=request.token,
            job_id=request.job_id,
            attempt=request.attempt,
            launched_at=now,
            instance_type=pool.instance_type,
            zone=pool.zone,
            market=request.market,
            hourly_price_usd=pool.hourly_price_usd,
            spot_instance_request_id=(
                f"sir-{instance_id.removeprefix('i-')[:8]}" if request.market == "spot" else None
            ),
        )

    @property
    def is_terminated(self) -> bool:
        """True if its state is TERMINATED."""
        return self.instance.state is InstanceState.TERMINATED

    def is_for(self, request: LaunchRequest) -> bool:
        """Return True if *request* is the one that launched it."""
        return self.request == msgspec.structs.replace(request, bootstrap_token="")

    def show(self, **changes: object) -> None:
        """Change what the cloud shows of it from now on."""
        self.instance = msgspec.structs.replace(self.instance, **changes)

    def container_started(self, at: datetime) -> ContainerRun:
        """Record that its container runs from *at* on."""
        self.container = ContainerRun(
            job_id=self.request.job_id,
            attempt=self.request.attempt,
            instance_id=self.instance.instance_id,
            started_at=at,
        )
        return self.container

    def container_stopped(self, at: datetime, exit_code: int | None) -> None:
        """Record the end of its container, if it has one; None: it ended with the machine."""
        if self.container is not None:
            self.container.stopped_at = at
            self.container.exit_code = exit_code
            self.container = None

    def start(self, name: str, work: Coroutine[None, None, None]) -> None:
        """Run *work* in it until it ends."""
        self.tasks[name] = asyncio.create_task(work)

    def later(self, name: str, clock: Clock, seconds: float, act: Callable[[], None]) -> None:
        """Call *act* after *seconds*, if it has not ended by then."""

        async def wait_and_act() -> None:
            await clock.wait(asyncio.Event(), seconds)
            act()

        self.start(name, wait_and_act())

    def cancel_all(self) -> None:
        """Cancel all its tasks but the calling one."""
        for task in self.tasks.values():
            if task is not asyncio.current_task():
                task.cancel()
        self.tasks.clear()
        self.notice = None


def instance_id_of(request: LaunchRequest) -> str:
    """Derive the instance id from the deployment and the launch token."""
    digest = hashlib.sha256(f"{request.deployment}\0{request.token}".encode()).hexdigest()
    return f"i-{digest[:17]}"
