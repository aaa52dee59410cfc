"""`process://`: an instance is an agent process on this machine, in a session of its own.

The state is a directory per instance (see `directory.py`), so instances are found again after a
restart, even after `kill -9` of everything but the agents; several replicas may share one root. The
instance id is derived from the launch token: a repeated launch finds the first directory.

What keeps "one launch, one agent" true in each crash window:
- before launch.json is written: nothing has happened; the repeated launch starts from the
  beginning.
- between launch.json and the start: PENDING, no process; the repeated launch starts it, terminate
  forbids it.
- between the start and spawned.json: the process holds `process.lock`, so the repeated launch
  adopts it.
- two replicas at once: the start happens under `spawn.lock`, after another check.
- terminate against launch: the marker is written first and read again under `spawn.lock`; a start
  that came earlier is seen by its lock, and the repeated terminate reaches it.
"""

import asyncio
import errno
import hashlib
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar, TypeVarTuple

import msgspec

from shared.clock import Clock
from shared.compute.one_machine import MachineCosts, answers, machine_offer
from shared.compute.port import (
    ComputeError,
    Deferred,
    Instance,
    LaunchBatch,
    LaunchRequest,
    NoCapacity,
    NotFound,
    Offer,
    Plan,
    PricedOffers,
    QuotaReached,
    Rejected,
    Unknown,
)
from shared.compute.process.directory import InstanceDir, Launched, Spawned, Stage
from shared.compute.process.host_filter import host_filter
from shared.compute.process.instances import ProcessInstances, ProcessSettings
from shared.compute.process.leftovers import ContainerEngine
from shared.compute.process.processes import Children

Runtime = Literal["auto", "docker", "simulated"]
T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

THREADS = 4
ENGINE_RETRY_SECONDS = 10.0
CONSOLE_BYTES = 16 * 1024

# The variables of our environment that an agent gets; the others hold our secrets.
INHERITED = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "XDG_RUNTIME_DIR", "SSL_CERT_FILE"),
    *("DOCKER_HOST", "DOCKER_CONFIG", "DOCKER_CONTEXT", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY"),
    *("DOCKER_API_VERSION", "AWS_EC2_METADATA_SERVICE_ENDPOINT"),
)

# The errors of a process that cannot be started, and what the caller does next. In each of these
# cases nothing was started; all others are `Unknown`.
START_ERRORS: dict[int, type[ComputeError]] = {
    errno.EAGAIN: QuotaReached,
    errno.EMFILE: QuotaReached,
    errno.ENFILE: QuotaReached,
    errno.ENOMEM: NoCapacity,
    errno.ENOENT: Rejected,
    errno.EACCES: Rejected,
}


class ProcessCompute(MachineCosts):
    """The compute port on this machine.

    *root* holds the state, *agent_path* is the agent's file, run by *python*. A *runtime* of "auto"
    is decided here for each launch, so that it is recorded which instances can have containers:
    docker from the first time an engine has answered.
    """

    name = "process"
    gathers = False

    def __init__(
        self,
        root: Path,
        deployment: str,
        clock: Clock,
        agent_path: Path,
        runtime: Runtime = "auto",
        python: str = sys.executable,
        *,
        settings: ProcessSettings | None = None,
        engine: ContainerEngine | None = None,
    ) -> None:
        self._root = root.absolute() / "instances"
        self._deployment = deployment
        self._clock = clock
        # Isolated and without site-packages: the agent needs neither, and starts faster so.
        self._command = (python, "-I", "-S", str(agent_path.absolute()))
        self._runtime = runtime
        self._settings = settings or ProcessSettings()
        self.machine_hourly_usd = self._settings.hourly_price_usd
        self._engine = engine or ContainerEngine()
        self._engine_seen = False
        self._engine_asked_at = float("-inf")
        self._instances = ProcessInstances(
            self._root, deployment, clock, self._engine, self._settings
        )
        self._filter = host_filter(self._settings.shared_engine.packet_filter)
        self._children = Children()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="process-compute")

    async def container_runtime(self) -> Literal["docker", "simulated"]:
        """Return the runtime of an agent launched now."""
        return await self._in_thread(self._choose_runtime)

    async def prepare(self) -> None:
        """Install this machine's packet filter, and log if that fails."""
        if await self.container_runtime() == "docker":
            await self._filter.keep()

    async def plan(self, offer: Offer) -> Plan:  # noqa: ARG002 - the port's
        """Return an empty plan: the request has all that a launch needs."""
        return {}

    async def price_offers(self) -> PricedOffers:
        """Offer this machine."""
        return machine_offer(
            "process",
            vcpus=os.cpu_count() or 1,
            memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            machine=platform.machine(),
            hourly_price_usd=self._settings.hourly_price_usd,
        )

    async def launch(self, batch: LaunchBatch) -> Sequence[Instance | ComputeError]:
        """Start or adopt.

        A terminated instance is returned as such and never started again, like EC2's
        IdempotentInstanceTerminated.
        """
        loop = asyncio.get_running_loop()
        runtime = await self.container_runtime()
        blocked = await self._filter.keep() if runtime == "docker" else ""
        if blocked:  # what an earlier call may have launched must not be launched elsewhere too
            raise Unknown(blocked) if batch.repeated else Deferred(blocked)
        started = [self._in_thread(self._launch, each, runtime, loop) for each in batch.requests]
        return await asyncio.gather(*started)

    async def terminate(self, instance_ids: Sequence[str]) -> None:
        """Signal the agents. SIGKILL comes with a call after the grace: repeat until TERMINATED."""
        await self._in_thread(self._instances.terminate, instance_ids)

    async def describe(self, instance_ids: Sequence[str]) -> dict[str, Instance]:
        """Describe these by directories and locks; remove the leftovers of dead agents."""
        seen = await self._in_thread(self._instances.describe, instance_ids)
        self._children.wait_for_ended()
        return {each.instance_id: each for each in seen}

    async def confirm(self, instance_ids: Sequence[str]) -> dict[str, Instance | NotFound]:
        """Describe these; without a directory there is no such instance."""
        return answers(instance_ids, await self.describe(instance_ids))

    async def list_instances(self) -> Sequence[Instance]:
        """List all of this deployment; remove terminated ones after their retention."""
        seen = await self._in_thread(self._instances.list_all)
        self._children.wait_for_ended()
        return seen

    async def console_output(self, instance_id: str) -> str | None:
        """Return the end of the agent's output."""
        home = self._instances.at(instance_id)
        return await self._in_thread(home.read_log, CONSOLE_BYTES) or None

    async def close(self) -> None:
        """Close the threads. Agents go on; the next adapter over this root adopts them."""
        await asyncio.to_thread(self._threads.shutdown)
        self._children.close()

    async def _in_thread(self, work: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, work, *arguments)

    def _choose_runtime(self) -> Literal["docker", "simulated"]:
        if self._runtime != "auto":
            return self._runtime
        # Once seen, an engine is expected: while it restarts, jobs must wait and not be simulated.
        if (
            not self._engine_seen
            and time.monotonic() - self._engine_asked_at > ENGINE_RETRY_SECONDS
        ):
            self._engine_seen = self._engine.answers()
            self._engine_asked_at = time.monotonic()
        return "docker" if self._engine_seen else "simulated"

    def _launch(
        self, request: LaunchRequest, runtime: str, loop: asyncio.AbstractEventLoop
    ) -> Instance | ComputeError:
        try:
            if request.deployment != self._deployment:
                message = f"deployment {request.deployment!r} is not {self._deployment!r}"
                raise Rejected(message)
            home = self._instances.at(instance_id_of(request.deployment, request.token))
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            home.make()
            with home.lock():
                launched = self._record_once(home, request, runtime)
                if home.stage_while_locked() is Stage.NEW:
                    self._start(home, launched, request.bootstrap_token, loop)
            return self._instances.describe([home.instance_id])[0]
        except ComputeError as error:
            return error
        except (OSError, IndexError) as error:  # a full disk; retention was removing it just now
            return Unknown(f"launching for job {request.job_id}: {error}")

    def _record_once(self, home: InstanceDir, request: LaunchRequest, runtime: str) -> Launched:
        # The bootstrap token is neither stored nor compared: it is derived from what is.
        stored = msgspec.structs.replace(request, bootstrap_token="")
        launched = home.launched()
        if launched is None:
            launched = Launched(
                request=stored,
                launched_at=self._clock.now(),
                runtime=runtime,
                hourly_price_usd=self._settings.hourly_price_usd,
            )
            home.write_launched(launched)
        elif launched.request != stored:
            message = f"{home.instance_id} was launched with the same token and other parameters"
            raise Rejected(message)
        return launched

    def _start(
        self, home: InstanceDir, launched: Launched, secret: str, loop: asyncio.AbstractEventLoop
    ) -> None:
        log = home.open_log()
        try:
            with home.process_lock() as lock:
                pid = self._children.spawn(
                    self._command,
                    env=self._environment(home, launched, secret),
                    cwd=home.path,
                    log=log,
                    keep=lock,
                    loop=loop,
                )
        except OSError as error:
            # A definite refusal: another offer may follow, so nothing of this one may stay.
            home.remove()
            kind = START_ERRORS.get(error.errno or 0, Unknown)
            message = f"the agent could not be started: {error}"
            raise kind(message) from error
        finally:
            os.close(log)
        home.write_spawned(Spawned(pid=pid, at=self._clock.now()))

    def _environment(self, home: InstanceDir, launched: Launched, secret: str) -> dict[str, str]:
        request = launched.request
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        shared = self._settings.shared_engine.environment()
        return (
            inherited
            | shared
            | {
                "DOCKER_JOB_API_URL": request.api_url,
                "DOCKER_JOB_API_CA": self._settings.api_ca,
                "DOCKER_JOB_JOB_ID": str(request.job_id),
                "DOCKER_JOB_ATTEMPT": str(request.attempt),
                "DOCKER_JOB_INSTANCE_ID": home.instance_id,
                "DOCKER_JOB_BOOTSTRAP_TOKEN": secret,
                "DOCKER_JOB_MAX_LIFETIME_SECONDS": str(request.max_lifetime_seconds),
                "DOCKER_JOB_RUNTIME": launched.runtime,
                "DOCKER_JOB_POWER_OFF": "exit",
                "DOCKER_JOB_DEPLOYMENT": request.deployment,
                "DOCKER_JOB_INSTANCE_DIR": str(home.path),
                "DOCKER_JOB_TERMINATE_GRACE_SECONDS": f"{self._settings.terminate_grace_seconds:g}",
            }
        )


def instance_id_of(deployment: str, token: str) -> str:
    """Derive the instance id from the deployment and the launch token."""
    digest = hashlib.sha256(f"{deployment}\0{token}".encode()).hexdigest()
    return f"p-{digest[:17]}"
