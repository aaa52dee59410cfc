"""The adapters under the contract, made and made again as after a restart.

To add an adapter, add a `…World` here and its name to WORLDS.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec
from aiohttp import web

from shared.clock import RealClock
from shared.compute.port import (
    Compute,
    ComputeError,
    Instance,
    InstanceState,
    LaunchBatch,
    LaunchRequest,
    Offer,
)
from shared.compute.process.adapter import ProcessCompute, Runtime
from shared.compute.process.directory import InstanceDir, Stage
from shared.compute.simulator.adapter import RemoteCloud, SimulatorCompute
from shared.compute.simulator.cloud import VirtualCloud
from shared.compute.simulator.serve import CloudServer
from tests.support.agent_file import agent_file
from tests.support.compute.compute_api import FakeApi
from tests.support.compute.compute_docker import DockerWorld
from tests.support.compute.compute_ec2 import Ec2World

T = TypeVar("T")

STUB = Path(__file__).with_name("compute_stub_agent.py")
AGENT = agent_file()
EVENTUALLY_SECONDS = 20.0
LIVING = {Stage.BOOTING, Stage.ALIVE}


class World(Protocol):
    """A cloud to test against; it outlives the adapters that are made for it."""

    forgets: str
    """Why a restart finds nothing, in words; empty: it finds everything."""

    def adapter(self, deployment: str = "test") -> Compute:
        """Make a new adapter object, as another process would."""
        ...

    async def close(self) -> None:
        """End all that was launched."""
        ...


class ProcessWorld:
    """Agents are local processes: the stub, or the real one, with the simulated runtime."""

    forgets = ""

    def __init__(self, root: Path, agent: Path, runtime: Runtime = "simulated") -> None:
        self.root = root
        self.agent = agent
        self.runtime = runtime
        self.made: list[ProcessCompute] = []

    def adapter(self, deployment: str = "test") -> ProcessCompute:
        compute = ProcessCompute(self.root, deployment, RealClock(), self.agent, self.runtime)
        self.made.append(compute)
        return compute

    def homes(self) -> list[InstanceDir]:
        """Return the directory of each instance."""
        instances = self.root / "instances"
        return [InstanceDir(path) for path in instances.iterdir()] if instances.exists() else []

    async def close(self) -> None:
        for home in self.homes():
            pid = home.pid()
            if pid is not None and home.stage() in LIVING:
                os.killpg(pid, signal.SIGKILL)
        await eventually(self.no_agent_runs)
        for compute in self.made:
            await compute.close()

    async def no_agent_runs(self) -> bool:
        """Return True if every agent has ended."""
        return not any(home.stage() in LIVING for home in self.homes())


class SimulatorWorld:
    """One virtual cloud; every adapter is a view of it."""

    forgets = "the simulator's cloud dies with its process: a restart knows none of its instances"

    def __init__(self) -> None:
        self.cloud = VirtualCloud(RealClock())

    def adapter(self, deployment: str = "test") -> SimulatorCompute:
        return SimulatorCompute(self.cloud, deployment, owns_cloud=False)

    async def close(self) -> None:
        await self.cloud.close()


class ServedWorld:
    """A virtual cloud behind HTTP, on a loop of its own as in another process."""

    forgets = ""

    def __init__(self) -> None:
        self.made: list[RemoteCloud] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.cloud, self._runner, self.url = self._there(self._serve())

    async def _serve(self) -> tuple[VirtualCloud, web.AppRunner, str]:
        cloud = VirtualCloud(RealClock())
        runner = web.AppRunner(CloudServer(cloud).app(), access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return cloud, runner, f"sim://127.0.0.1:{runner.addresses[0][1]}"

    def _there(self, work: Coroutine[Any, Any, T]) -> T:
        """Run *work* on the cloud's own loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(EVENTUALLY_SECONDS)

    def adapter(self, deployment: str = "test") -> RemoteCloud:
        self.made.append(RemoteCloud(self.url, deployment))
        return self.made[-1]

    async def close(self) -> None:
        for compute in self.made:
            await compute.close()
        await asyncio.to_thread(self._there, self._runner.cleanup())
        await asyncio.to_thread(self._there, self.cloud.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join)
        self._loop.close()


WORLDS: dict[str, Callable[[Path, FakeApi], World]] = {
    "process, stub agent": lambda root, _api: ProcessWorld(root, STUB),
    "process, real agent": lambda root, _api: ProcessWorld(root, AGENT),
    "docker": lambda _root, _api: DockerWorld(),
    "simulator": lambda _root, _api: SimulatorWorld(),
    "simulator, served": lambda _root, _api: ServedWorld(),
    "ec2": lambda _root, api: Ec2World(api),
}


def request_for(api: FakeApi, job_id: int, **changes: object) -> LaunchRequest:
    """Build a launch request of a job whose agent calls *api*."""
    request = LaunchRequest(
        token=f"token-{job_id}",
        deployment="test",
        job_id=job_id,
        attempt=1,
        max_lifetime_seconds=60,
        api_url=api.url,
        bootstrap_token=f"bootstrap-{job_id}",
    )
    return msgspec.structs.replace(request, **changes)


def batch_of(*requests: LaunchRequest) -> LaunchBatch:
    """Build a batch whose token is its requests', so that the same requests are the same batch."""
    token = "+".join(f"{each.deployment}/{each.token}" for each in requests)
    return LaunchBatch(token=token, requests=requests)


async def launch(compute: Compute, *requests: LaunchRequest) -> Sequence[Instance | ComputeError]:
    """Plan and launch *requests* in one batch; the error of a plan is the outcome of each."""
    first = requests[0]
    offer = Offer(
        deployment=first.deployment,
        api_url=first.api_url,
        market=first.market,
        resources=first.resources,
    )
    try:
        plan = await compute.plan(offer)
        return await compute.launch(msgspec.structs.replace(batch_of(*requests), plan=plan))
    except ComputeError as error:
        return [error] * len(requests)


async def launch_one(compute: Compute, request: LaunchRequest) -> Instance:
    """Launch it, and assert that it was."""
    [answer] = await launch(compute, request)
    assert isinstance(answer, Instance), answer
    return answer


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait for an effect of another process that sends no signal."""
    async with asyncio.timeout(EVENTUALLY_SECONDS):
        while not await holds():  # noqa: ASYNC110 - another process cannot set an event
            await asyncio.sleep(0.01)


async def until_state(compute: Compute, instance_id: str, state: InstanceState) -> Instance:
    """Wait until the cloud shows it in *state*."""

    async def shown() -> bool:
        found = await compute.describe([instance_id])
        return instance_id in found and found[instance_id].state is state

    await eventually(shown)
    return (await compute.describe([instance_id]))[instance_id]
