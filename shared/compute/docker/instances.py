"""Looking at the instances of the docker adapter, and ending them.

TERMINATED promises that the instance's container *and* the job's are gone. A cloud's machine takes
its containers along; here they are siblings on one engine, so whoever finds an ended instance
removes what it has left, and says STOPPING until the engine has confirmed that. The job's
containers are known by the labels that the agent gives them.

One list of the engine shows instances and their jobs' containers at one moment, which settles the
order of things: a job's container that has no living instance in that list never gets one. One
whose creation was under way when its client was killed turns up late, was never started, and is
removed by a later look.

What is remembered here is lost with the process, and costs a longer grace or another question then,
no more.
"""

import asyncio
import contextlib
import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import msgspec

from shared.clock import Clock
from shared.compute.agent_end import Ended
from shared.compute.docker.container import HOME, INSTANCE_ID, LABEL, STARTED, DockerSettings
from shared.compute.docker.engine import EngineApi, ListedContainer
from shared.compute.port import ComputeError, Instance, InstanceState

KILL_MARGIN_SECONDS = 5.0
CLEARING_SECONDS = 4.0
ON_REQUEST = "terminated on request"
OVER = {"exited", "dead"}
LAST_WORD = re.compile(rb'\{"at": .*"event": "ended".*\}')


@dataclass(frozen=True)
class Seen:
    """What the engine showed of a deployment at one moment, by instance id."""

    instances: dict[str, ListedContainer] = field(default_factory=dict)
    jobs: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


class Termination(msgspec.Struct, frozen=True):
    """When and why an instance ended."""

    at: datetime
    reason: str
    spot_interrupted: bool = False


@dataclass
class Memory:
    """What this process knows of an instance besides what the engine shows."""

    ending_since: datetime | None = None
    epitaph: Termination | None = None
    told_gone_at: datetime | None = None


class DockerInstances:
    """The instances of one deployment on one engine."""

    def __init__(
        self, engine: EngineApi, deployment: str, clock: Clock, settings: DockerSettings
    ) -> None:
        self._engine = engine
        self._deployment = deployment
        self._clock = clock
        self._settings = settings
        self._memories: dict[str, Memory] = {}

    async def look(self, instance_ids: Collection[str]) -> list[Instance]:
        """What is known of these; the unknown are left out."""
        seen = await self._see()
        wanted = seen.instances.keys() & set(instance_ids)
        return await self._show(seen, wanted, await self._clear_away(seen, wanted))

    async def look_at_all(self) -> list[Instance]:
        """Every instance. Those that were told of as terminated for long enough are removed.

        The time runs from when *this process* said so first, not from the end: a reaper that was
        down for longer still hears of it.
        """
        seen = await self._see()
        left = await self._clear_away(seen, seen.instances.keys() | seen.jobs.keys())
        shown = await self._show(seen, seen.instances.keys(), left)
        past = {each.instance_id for each in shown if self._is_past_retention(each)}
        with contextlib.suppress(TimeoutError):  # then the next look removes the rest
            async with asyncio.timeout(CLEARING_SECONDS):
                removals = [
                    self._engine.remove(seen.instances[each].id, force=False) for each in past
                ]
                await asyncio.gather(*removals, return_exceptions=True)
        return [each for each in shown if each.instance_id not in past]

    async def end(self, instance_ids: Collection[str]) -> None:
        """Forbid the start of each, or signal its agent; SIGKILL, once it has had its time.

        The end of each is tried whatever becomes of the others; then the first error is raised.
        """
        seen = await self._see()
        known = seen.instances.keys() & set(instance_ids)
        ends = [self._end(each, seen.instances[each]) for each in known]
        for result in await asyncio.gather(*ends, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    def remember_ending(self, instance_id: str) -> None:
        """Somebody wants its end, as its container shows."""
        memory = self._memory(instance_id)
        memory.ending_since = memory.ending_since or self._clock.now()

    async def _see(self) -> Seen:
        seen = Seen()
        for each in await self._engine.containers(f"{LABEL}deployment={self._deployment}"):
            instance_id = each.label(f"{LABEL}instance")
            if not INSTANCE_ID.fullmatch(instance_id):
                continue  # the process adapter's, on the same engine
            if each.label(f"{LABEL}role") == "instance":
                seen.instances[instance_id] = each
            else:
                seen.jobs[instance_id].append(each.id)
        for instance_id in self._memories.keys() - seen.instances.keys():
            del self._memories[instance_id]
        return seen

    def _memory(self, instance_id: str) -> Memory:
        return self._memories.setdefault(instance_id, Memory())

    # --- ending --------------------------------------------------------------------------------

    async def _end(self, instance_id: str, container: ListedContainer) -> None:
        if container.state in OVER | {"removing"}:
            return
        now = self._clock.now()
        memory = self._memory(instance_id)
        since = memory.ending_since = memory.ending_since or now
        if container.state == "created":
            # Whoever starts it after this starts nothing. Whoever did so in between is signalled
            # by the repeated call.
            await self._engine.make_directory(container.id, HOME, STARTED, now)
        else:
            if container.state == "paused":
                await self._engine.unpause(container.id)  # else no signal gets to it
            grace = timedelta(seconds=self._settings.terminate_grace_seconds + KILL_MARGIN_SECONDS)
            # A clock that was set back must not keep an instance alive: a moment in the future has
            # passed.
            signal = "SIGTERM" if since <= now < since + grace else "SIGKILL"
            await self._engine.kill(container.id, signal)

    async def _clear_away(self, seen: Seen, instance_ids: Iterable[str]) -> set[str]:
        """Remove the containers that ended instances left; those instances that still have one."""
        strays = {
            container: instance_id
            for instance_id in instance_ids
            if instance_id not in seen.instances or seen.instances[instance_id].state in OVER
            for container in seen.jobs.get(instance_id, ())
        }

        async def remove(container: str) -> None:
            if await self._engine.remove(container, force=True):
                del strays[container]

        if strays:
            with contextlib.suppress(TimeoutError):  # the engine goes on, and a later look confirms
                async with asyncio.timeout(CLEARING_SECONDS):
                    await asyncio.gather(*map(remove, tuple(strays)), return_exceptions=True)
        return set(strays.values())

    def _is_past_retention(self, instance: Instance) -> bool:
        if instance.state is not InstanceState.TERMINATED:
            return False
        now = self._clock.now()
        told = self._memory(instance.instance_id).told_gone_at or now
        return not told <= now < told + timedelta(seconds=self._settings.retention_seconds)

    # --- showing -------------------------------------------------------------------------------

    async def _show(
        self, seen: Seen, instance_ids: Iterable[str], left: Collection[str]
    ) -> list[Instance]:
        ids = sorted(instance_ids)
        gone = [self._epitaph(each, seen.instances[each]) for each in ids if each not in left]
        epitaphs = dict(
            zip(
                (each for each in ids if each not in left), await asyncio.gather(*gone), strict=True
            )
        )
        return [self._instance(each, seen.instances[each], epitaphs.get(each)) for each in ids]

    def _instance(
        self, instance_id: str, container: ListedContainer, gone: Termination | None
    ) -> Instance:
        memory = self._memories.get(instance_id) or Memory()
        if gone:
            memory = self._memory(instance_id)
            memory.told_gone_at = memory.told_gone_at or self._clock.now()
        launched_at = datetime.fromtimestamp(container.created, UTC)
        reason = ON_REQUEST if memory.ending_since else ""
        if container.state in OVER:
            reason = "its container may be left"
        return Instance(
            instance_id=instance_id,
            state=_state(container.state, gone=gone is not None, ending=bool(memory.ending_since)),
            launch_token=container.label(f"{LABEL}launch-token"),
            job_id=int(container.label(f"{LABEL}job")),
            attempt=int(container.label(f"{LABEL}attempt")),
            launched_at=launched_at,
            instance_type="docker",
            zone="local",
            market="spot",
            hourly_price_usd=float(container.label(f"{LABEL}hourly-price-usd")),
            spot_instance_request_id=f"local-{instance_id}",
            terminated_at=max(gone.at, launched_at) if gone else None,
            state_reason=gone.reason if gone else reason,
            spot_interrupted=gone is not None and gone.spot_interrupted,
        )

    async def _epitaph(self, instance_id: str, container: ListedContainer) -> Termination | None:
        """How it ended; None: it has not, or the engine does not say so now.

        A created container is asked only where we want its end: the question waits for the
        engine's lock on it, so for the end of a start that is under way.
        """
        memory = self._memories.get(instance_id) or Memory()
        if container.state == "created" and memory.ending_since is None:
            return None
        if container.state not in OVER | {"created"}:
            return None
        if memory.epitaph is None:
            with contextlib.suppress(ComputeError):  # one that is busy must not hide all the others
                memory = self._memory(instance_id)
                memory.epitaph = await self._read_epitaph(container, memory)
        return memory.epitaph

    async def _read_epitaph(self, container: ListedContainer, memory: Memory) -> Termination | None:
        ended_by_us = memory.ending_since is not None
        if container.state == "created":
            at = await self._engine.modified_at(container.id, f"{HOME}/{STARTED}")
            return Termination(at, f"{ON_REQUEST}, never started") if at else None
        inspected = await self._engine.inspect(container.id)
        if inspected is None:  # another replica has had it long enough, and removed it just now
            return Termination(self._clock.now(), "its container was removed")
        state = inspected.state
        said = LAST_WORD.findall(await self._engine.last_errors(container.id))
        ended = Ended()
        with contextlib.suppress(IndexError, msgspec.DecodeError):
            ended = msgspec.json.decode(said[-1], type=Ended)
        reason = ended.reason or (ON_REQUEST if ended_by_us else "its agent died without a word")
        if state.oom_killed:
            reason += ", out of memory"
        if state.exit_code:
            reason += f", exit code {state.exit_code}"
        return Termination(state.finished_at, reason, ended.by_interruption())


def _state(engine_says: str, *, gone: bool, ending: bool) -> InstanceState:
    if gone:
        return InstanceState.TERMINATED
    if ending or engine_says in OVER | {"removing"}:
        return InstanceState.STOPPING
    return InstanceState.PENDING if engine_says == "created" else InstanceState.RUNNING
