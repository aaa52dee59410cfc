"""One virtual instance: what the cloud shows of it, and what goes on in it."""

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from datetime import datetime

import msgspec

from shared.clock import Clock
from shared.compute.port import Instance, InstanceState, LaunchRequest
from shared.compute.simulator.faults import SimulatedPool
from shared.compute.simulator.ground_truth import ContainerRun


class VirtualMachine:
    """A virtual instance; small once it is terminated, when its tasks are gone."""

    __slots__ = ("container", "instance", "notice", "pool", "request", "taken_back_at", "tasks")

    def __init__(
        self, request: LaunchRequest, instance_id: str, pool: SimulatedPool, now: datetime
    ) -> None:
        self.request = msgspec.structs.replace(request, bootstrap_token="")
        self.pool = pool
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.notice: asyncio.Event | None = None
        self.taken_back_at: datetime | None = None
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
    def is_gone(self) -> bool:
        """Whether it is terminated."""
        return self.instance.state is InstanceState.TERMINATED

    def is_for(self, request: LaunchRequest) -> bool:
        """Whether *request* is the one that launched it."""
        return self.request == msgspec.structs.replace(request, bootstrap_token="")

    def show(self, **changes: object) -> None:
        """Let the cloud show it differently from now on."""
        self.instance = msgspec.structs.replace(self.instance, **changes)

    def container_started(self, at: datetime) -> ContainerRun:
        """Its container runs from *at* on."""
        self.container = ContainerRun(
            job_id=self.request.job_id,
            attempt=self.request.attempt,
            instance_id=self.instance.instance_id,
            started_at=at,
        )
        return self.container

    def container_stopped(self, at: datetime, exit_code: int | None) -> None:
        """Its container, if there is one, runs no more; None: it went with the machine."""
        if self.container is not None:
            self.container.stopped_at = at
            self.container.exit_code = exit_code
            self.container = None

    def start(self, name: str, work: Coroutine[None, None, None]) -> None:
        """Let *work* go on in it until it ends."""
        self.tasks[name] = asyncio.create_task(work)

    def later(self, name: str, clock: Clock, seconds: float, act: Callable[[], None]) -> None:
        """Let *act* happen to it after *seconds*, if it has not ended by then."""

        async def wait_and_act() -> None:
            await clock.wait(asyncio.Event(), seconds)
            act()

        self.start(name, wait_and_act())

    def cancel_all(self) -> None:
        """End all that goes on in it, save what is calling."""
        for task in self.tasks.values():
            if task is not asyncio.current_task():
                task.cancel()
        self.tasks.clear()
        self.notice = None


def instance_id_of(request: LaunchRequest) -> str:
    """The id that a launch token gives within a deployment, the same for whoever asks."""
    digest = hashlib.sha256(f"{request.deployment}\0{request.token}".encode()).hexdigest()
    return f"i-{digest[:17]}"
