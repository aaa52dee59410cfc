"""Describing and terminating the instances of the docker adapter.

TERMINATED promises that neither the instance's container *nor* the job's is left. A cloud's machine
ends its containers with it; here they are siblings on one engine, so `describe` removes what an
ended instance has left, and returns STOPPING until the engine has confirmed that. The job's
containers are known by the labels that the agent gives them.

A job's network goes too, as soon as no container is on it; it costs nothing and keeps nothing
running, so TERMINATED does not wait for it. Each list removes what an earlier one could not.

One list of the engine shows instances and their jobs' containers in one snapshot, which orders
events: a job's container that has no running instance in that list never gets one. A container
whose creation was under way when its client was killed appears later, was never started, and is
removed by a later call.

The memory of this process is lost when it ends; that costs a longer grace or another call, no more.
"""

import asyncio
import contextlib
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec

from shared.clock import Clock
from shared.compute.agent_end import Ended
from shared.compute.docker.container import HOME, LABEL, STARTED, DockerSettings
from shared.compute.docker.engine import EngineApi
from shared.compute.docker.snapshot import OVER, Snapshot, take_snapshot
from shared.compute.docker.values import ListedContainer
from shared.compute.port import ComputeError, Instance, InstanceState
from shared.log import get_logger

_log = get_logger(part="docker")

KILL_MARGIN_SECONDS = 5.0
CLEARING_SECONDS = 4.0
ON_REQUEST = "terminated on request"
ENDED_LINE = re.compile(rb'\{"at": .*"event": "ended".*\}')


class Termination(msgspec.Struct, frozen=True):
    """The end of an instance: time and reason."""

    at: datetime
    reason: str
    spot_interrupted: bool = False


@dataclass
class Memory:
    """The memory of this process about an instance, besides what the engine shows."""

    ending_since: datetime | None = None
    termination: Termination | None = None
    shown_terminated_at: datetime | None = None


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

    async def describe(self, instance_ids: Collection[str]) -> list[Instance]:
        """Return the known ones of these; remove leftovers of ended ones."""
        seen = await self._take_snapshot()
        wanted = seen.instances.keys() & set(instance_ids)
        return await self._show(seen, wanted, await self._remove_leftovers(seen, wanted))

    async def list_all(self) -> list[Instance]:
        """List every instance; remove those shown as terminated for long enough.

        The time runs from when *this process* first showed it, not from the end: a reaper that
        was down for longer still sees it.
        """
        seen = await self._take_snapshot()
        every = seen.instances.keys() | seen.jobs.keys() | seen.networks.keys()
        left = await self._remove_leftovers(seen, every)
        shown = await self._show(seen, seen.instances.keys(), left)
        past = {each.instance_id for each in shown if self._is_past_retention(each)}
        with contextlib.suppress(TimeoutError):  # then the next call removes the rest
            async with asyncio.timeout(CLEARING_SECONDS):
                ids = [seen.instances[each].id for each in past]
                removals = [self._engine.remove(each, force=False) for each in ids]
                _logged("remove", ids, await asyncio.gather(*removals, return_exceptions=True))
        return [each for each in shown if each.instance_id not in past]

    async def any_running(self) -> bool:
        """Return whether an instance runs now; raises a `ComputeError` if that is not known."""
        seen = await self._take_snapshot()
        return any(each.state == "running" for each in seen.instances.values())

    async def terminate(self, instance_ids: Collection[str]) -> None:
        """Forbid the start of each, or signal its agent; SIGKILL after the grace.

        Each is tried, even if others fail, and each failure is logged; then the first is raised.
        """
        seen = await self._take_snapshot()
        known = sorted(seen.instances.keys() & set(instance_ids))
        ends = [self._end(each, seen.instances[each]) for each in known]
        failures = _logged("terminate", known, await asyncio.gather(*ends, return_exceptions=True))
        if failures:
            raise failures[0]

    def note_ending(self, instance_id: str) -> None:
        """Record that its container shows a termination request."""
        memory = self._memory(instance_id)
        memory.ending_since = memory.ending_since or self._clock.now()

    async def _take_snapshot(self) -> Snapshot:
        seen = await take_snapshot(self._engine, self._deployment)
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
            # A start after this has no effect. A start in between is signalled by the repeated
            # call.
            await self._engine.make_directory(container.id, HOME, STARTED, now)
        else:
            if container.state == "paused":
                await self._engine.unpause(container.id)  # else no signal reaches it
            grace = timedelta(seconds=self._settings.terminate_grace_seconds + KILL_MARGIN_SECONDS)
            # A clock that was set back must not keep an instance alive: a time in the future
            # counts as past.
            signal = "SIGTERM" if since <= now < since + grace else "SIGKILL"
            await self._engine.kill(container.id, signal)

    async def _remove_leftovers(self, seen: Snapshot, instance_ids: Iterable[str]) -> set[str]:
        """Remove the containers that ended instances left; return instances that still have one."""
        over = [each for each in instance_ids if seen.is_over(each)]
        strays = {
            container: instance_id
            for instance_id in over
            for container in seen.jobs.get(instance_id, ())
        }
        networks = [network for each in over for network in seen.networks.get(each, ())]

        async def remove(container: str) -> None:
            if await self._engine.remove(container, force=True):
                del strays[container]

        with contextlib.suppress(TimeoutError):  # the engine goes on, and a later call confirms
            async with asyncio.timeout(CLEARING_SECONDS):
                ids = tuple(strays)
                done = await asyncio.gather(*map(remove, ids), return_exceptions=True)
                _logged("remove", ids, done)
                removals = [self._engine.remove_network(each) for each in networks]
                _logged("remove", networks, await asyncio.gather(*removals, return_exceptions=True))
        return set(strays.values())

    def _is_past_retention(self, instance: Instance) -> bool:
        if instance.state is not InstanceState.TERMINATED:
            return False
        now = self._clock.now()
        shown_at = self._memory(instance.instance_id).shown_terminated_at or now
        return not shown_at <= now < shown_at + timedelta(seconds=self._settings.retention_seconds)

    # --- showing -------------------------------------------------------------------------------

    async def _show(
        self, seen: Snapshot, instance_ids: Iterable[str], left: Collection[str]
    ) -> list[Instance]:
        ids = sorted(instance_ids)
        ends = await asyncio.gather(
            *(self._termination(each, seen.instances[each]) for each in ids if each not in left)
        )
        by_id = dict(zip((each for each in ids if each not in left), ends, strict=True))
        return [self._instance(each, seen.instances[each], by_id.get(each)) for each in ids]

    def _instance(
        self, instance_id: str, container: ListedContainer, end: Termination | None
    ) -> Instance:
        memory = self._memories.get(instance_id) or Memory()
        if end:
            memory = self._memory(instance_id)
            memory.shown_terminated_at = memory.shown_terminated_at or self._clock.now()
        launched_at = datetime.fromtimestamp(container.created, UTC)
        reason = ON_REQUEST if memory.ending_since else ""
        if container.state in OVER:
            reason = "its container may be left"
        return Instance(
            instance_id=instance_id,
            state=_state(
                container.state, terminated=end is not None, ending=bool(memory.ending_since)
            ),
            launch_token=container.label(f"{LABEL}launch-token"),
            job_id=int(container.label(f"{LABEL}job")),
            attempt=int(container.label(f"{LABEL}attempt")),
            launched_at=launched_at,
            instance_type="docker",
            zone="local",
            market="spot",
            hourly_price_usd=float(container.label(f"{LABEL}hourly-price-usd")),
            spot_instance_request_id=f"local-{instance_id}",
            terminated_at=max(end.at, launched_at) if end else None,
            state_reason=end.reason if end else reason,
            spot_interrupted=end is not None and end.spot_interrupted,
        )

    async def _termination(
        self, instance_id: str, container: ListedContainer
    ) -> Termination | None:
        """Return its end; None: it has not ended, or the engine does not answer now.

        A created container is inspected only after a termination request: the call waits for the
        engine's lock on it, so for a start that is under way.
        """
        memory = self._memories.get(instance_id) or Memory()
        if container.state == "created" and memory.ending_since is None:
            return None
        if container.state not in OVER | {"created"}:
            return None
        if memory.termination is None:
            with contextlib.suppress(ComputeError):  # one that is busy must not hide the others
                memory = self._memory(instance_id)
                memory.termination = await self._read_termination(container, memory)
        return memory.termination

    async def _read_termination(
        self, container: ListedContainer, memory: Memory
    ) -> Termination | None:
        ended_by_us = memory.ending_since is not None
        if container.state == "created":
            at = await self._engine.modified_at(container.id, f"{HOME}/{STARTED}")
            return Termination(at, f"{ON_REQUEST}, never started") if at else None
        inspected = await self._engine.inspect(container.id)
        if inspected is None:  # another replica has removed it now, after its retention
            return Termination(self._clock.now(), "its container was removed")
        state = inspected.state
        reported = ENDED_LINE.findall(await self._engine.last_errors(container.id))
        ended = Ended()
        with contextlib.suppress(IndexError, msgspec.DecodeError):
            ended = msgspec.json.decode(reported[-1], type=Ended)
        reason = ended.reason or (ON_REQUEST if ended_by_us else "its agent ended without a report")
        if state.oom_killed:
            reason += ", out of memory"
        if state.exit_code:
            reason += f", exit code {state.exit_code}"
        return Termination(state.finished_at, reason, ended.by_interruption())


def _logged(what: str, ids: Sequence[str], results: Sequence[object]) -> list[BaseException]:
    """Log each failure among *results*, and return them."""
    failures = []
    for each, result in zip(ids, results, strict=True):
        if isinstance(result, BaseException):
            _log.warning(f"{what} failed", id=each, error=f"{type(result).__name__}: {result}")
            failures.append(result)
    return failures


def _state(shown: str, *, terminated: bool, ending: bool) -> InstanceState:
    if terminated:
        return InstanceState.TERMINATED
    if ending or shown in OVER | {"removing"}:
        return InstanceState.STOPPING
    return InstanceState.PENDING if shown == "created" else InstanceState.RUNNING
