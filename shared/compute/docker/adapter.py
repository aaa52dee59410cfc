"""`docker://`: an instance is a container that holds the agent, on the engine that runs us too.

All state is the engine's own: labels describe an instance, its name is derived from the launch
token, and the engine has only one container of a name. So several replicas need not know each
other, and nothing is lost with a process.

What keeps "one launch, one agent" true in each crash window:
- before the container is created: nothing has happened; the repeated launch starts from the
  beginning.
- between creation and start: PENDING; the repeated launch starts it, terminate forbids it by making
  the directory that the agent's entrypoint must make (`container.py`).
- two replicas at once: one creates, the other finds the name taken, compares the parameters' hash
  and adopts; a second start has no effect on a running container, and an ended one does not run
  again because of the same directory.
- after the end: the exited container is found by its token until it is removed. A launch repeated
  after that makes an instance of the same id, whose claim the API answers with 409, since the
  attempt has been claimed or is over: it ends before it has run anything.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence

from shared.clock import Clock
from shared.compute.docker.container import (
    HOME,
    LABEL,
    STARTED,
    DockerSettings,
    container_name,
    container_of,
    instance_id_of,
    parameters_of,
)
from shared.compute.docker.engine import DEFAULT_HOST, EngineApi
from shared.compute.docker.host_filter import host_filter
from shared.compute.docker.instances import DockerInstances
from shared.compute.one_machine import MachineCosts, answers, machine_offer
from shared.compute.port import (
    ComputeError,
    Deferred,
    Instance,
    LaunchBatch,
    LaunchRequest,
    NotFound,
    Offer,
    Plan,
    PricedOffers,
    Rejected,
    Throttled,
    Unknown,
)

# A launch is a creation and a start, a third of a second's work for an engine of two cores; more of
# them at once take no less time together. Launches that a batch does not begin in its time are
# refused, so that the caller's own limit (30 s) does not make all of them `Unknown`.
LAUNCHES_AT_ONCE = 8
TURN_SECONDS = 12.0
LAUNCH_SECONDS = 14.0

CONSOLE_LINES = 200

# The engine takes a name before it shows the container, and creating one can take a while.
ADOPT_PAUSES_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)


class DockerCompute(MachineCosts):
    """The compute port on a Docker engine. *host* is as in DOCKER_HOST. Raises ValueError."""

    name = "docker"
    gathers = False

    def __init__(
        self,
        deployment: str,
        clock: Clock,
        settings: DockerSettings | None = None,
        *,
        host: str = DEFAULT_HOST,
    ) -> None:
        self._deployment = deployment
        self._settings = settings or DockerSettings()
        self.machine_hourly_usd = self._settings.hourly_price_usd
        self._engine = EngineApi(host)
        self._instances = DockerInstances(self._engine, deployment, clock, self._settings)
        self._turns = asyncio.Semaphore(LAUNCHES_AT_ONCE)
        self._filter = host_filter(self._engine, deployment, self._settings)
        self._prepared = False

    async def prepare(self) -> None:
        """Install the host's packet filter: at first, and then while instances run."""
        with contextlib.suppress(ComputeError):  # without an engine nothing runs, or is launched
            if not self._prepared or await self._instances.any_running():
                await self._keep_filter()
            self._prepared = True

    async def plan(self, offer: Offer) -> Plan:  # noqa: ARG002 - the port's
        """Return an empty plan: the request has all that a launch needs."""
        return {}

    async def price_offers(self) -> PricedOffers:
        """Offer the engine's machine."""
        machine = await self._engine.info()
        return machine_offer(
            "docker",
            vcpus=machine.vcpus,
            memory_bytes=machine.memory_bytes,
            machine=machine.architecture,
            hourly_price_usd=self._settings.hourly_price_usd,
        )

    async def launch(self, batch: LaunchBatch) -> Sequence[Instance | ComputeError]:
        """Create and start, or adopt; an ended instance is returned as such, never started again.

        One list of the engine at the end shows them all.
        """
        requests = batch.requests
        until = time.monotonic() + TURN_SECONDS
        blocked = await self._keep_filter()
        if blocked:  # what an earlier call may have launched must not be launched elsewhere too
            raise Unknown(blocked) if batch.repeated else Deferred(blocked)
        errors = await asyncio.gather(*(self._launch_in_turn(each, until) for each in requests))
        ids = [instance_id_of(self._deployment, each.token) for each in requests]
        wanted = [each for each, error in zip(ids, errors, strict=True) if error is None]
        lost: ComputeError = Unknown("the Docker engine does not show the instance")
        shown: dict[str, Instance] = {}
        try:
            shown = await self.describe(wanted) if wanted else {}
        except ComputeError as error:
            lost = Unknown(str(error))  # it does not concern the launches
        return [
            shown.get(each, lost) if error is None else error
            for each, error in zip(ids, errors, strict=True)
        ]

    async def terminate(self, instance_ids: Sequence[str]) -> None:
        """Signal the agents. SIGKILL comes with a call after the grace: repeat until TERMINATED."""
        if instance_ids:
            await self._instances.terminate(instance_ids)

    async def describe(self, instance_ids: Sequence[str]) -> dict[str, Instance]:
        """Describe these; remove the job's containers that an ended one left."""
        if not instance_ids:
            return {}
        return {each.instance_id: each for each in await self._instances.describe(instance_ids)}

    async def confirm(self, instance_ids: Sequence[str]) -> dict[str, Instance | NotFound]:
        """Describe these; without a container there is no such instance."""
        return answers(instance_ids, await self.describe(instance_ids))

    async def list_instances(self) -> Sequence[Instance]:
        """List all of this deployment; remove ended ones after their retention."""
        return await self._instances.list_all()

    async def console_output(self, instance_id: str) -> str | None:
        """Return the last lines of the agent's container."""
        return await self._engine.last_output(container_name(instance_id), CONSOLE_LINES) or None

    async def close(self) -> None:
        """Close the connections. Instances go on."""
        await self._engine.close()

    async def _keep_filter(self) -> str:
        """Return why nothing may launch, empty if launches may go on."""
        return await self._filter.keep() if self._settings.runtime == "docker" else ""

    async def _launch_in_turn(self, request: LaunchRequest, until: float) -> ComputeError | None:
        try:
            if request.deployment != self._deployment:
                message = f"deployment {request.deployment!r} is not {self._deployment!r}"
                raise Rejected(message)
            async with self._turns:
                if time.monotonic() > until:
                    raise Throttled("the Docker engine is busy with other launches")
                async with asyncio.timeout(LAUNCH_SECONDS):
                    await self._create_or_adopt(request)
        except ComputeError as error:
            return error
        except TimeoutError:
            return Unknown(f"launching for job {request.job_id} took too long")
        return None

    async def _create_or_adopt(self, request: LaunchRequest) -> None:
        instance_id = instance_id_of(request.deployment, request.token)
        name = container_name(instance_id)
        engine = self._engine
        container = container_of(request, self._settings, engine.host, engine.socket)
        for pause in ADOPT_PAUSES_SECONDS:
            if await engine.create(name, container):
                await self._start(name)
                return
            if await self._adopt(name, instance_id, request):
                return
            await asyncio.sleep(pause)
        raise Unknown(f"{name}: another caller has been creating it for too long")

    async def _adopt(self, name: str, instance_id: str, request: LaunchRequest) -> bool:
        """Adopt the container of that name, and start it if it is not; False: there is none."""
        found = await self._engine.inspect(name)
        if found is None:
            return False
        if found.label(f"{LABEL}parameters") != parameters_of(request):
            raise Rejected(f"{name} was launched with the same token and other parameters")
        if found.state.status == "created":
            if await self._engine.modified_at(name, f"{HOME}/{STARTED}"):
                self._instances.note_ending(instance_id)
            else:
                await self._start(name)
        return True

    async def _start(self, name: str) -> None:
        try:
            await self._engine.start(name)
        except Rejected:
            if await self._engine.inspect(name) is None:
                raise Unknown(f"{name} was removed while it was being started") from None
            # A definite refusal: another offer may follow, so nothing of this one may stay.
            await self._engine.remove(name, force=False)
            raise
