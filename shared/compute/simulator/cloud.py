"""A simulated cloud: pools, prices, instances with virtual agents, and faults drawn from a seed.

It ends with its process: after a restart its instances do not exist, and the reaper finds them
vanished. Its methods change state between two awaits, so they need no lock; time is the clock's.
"""

import asyncio
import random
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from shared.clock import Clock
from shared.compute.port import (
    ComputeError,
    Instance,
    InstanceState,
    LaunchRequest,
    NoCapacity,
    PricedOffers,
    QuotaReached,
    Rejected,
    Throttled,
    Unknown,
)
from shared.compute.simulator.agent import AgentContext, VirtualAgent
from shared.compute.simulator.agent_api import AgentApi, HttpAgentApi
from shared.compute.simulator.faults import DEFAULT_POOLS, Faults, SimulatedPool
from shared.compute.simulator.machine import (
    CallRecord,
    GroundTruth,
    VirtualMachine,
    instance_id_of,
)
from shared.compute.simulator.prices import offers_of
from shared.log import get_logger

_log = get_logger(part="simulator")

RETAINED_SECONDS = 3600.0
RETAINED_COUNT = 10_000


class VirtualCloud:
    """The cloud itself; `SimulatorCompute` is one deployment's view of it."""

    def __init__(
        self,
        clock: Clock,
        faults: Faults | None = None,
        *,
        api: AgentApi | None = None,
        pools: Sequence[SimulatedPool] = DEFAULT_POOLS,
    ) -> None:
        self.truth = GroundTruth()
        self.faults = faults or Faults()
        self._clock = clock
        self._api = api or HttpAgentApi()
        self._rng = random.Random(self.faults.seed)
        self._pools = sorted(pools, key=lambda pool: pool.hourly_price_usd)
        self._used: dict[SimulatedPool, int] = dict.fromkeys(pools, 0)
        self._dry_until: dict[SimulatedPool, datetime] = {}
        self._machines: dict[str, VirtualMachine] = {}  # terminated ones in the order of their end

    # --- calls of a deployment -------------------------------------------------------------------

    def launch(self, request: LaunchRequest) -> Instance | ComputeError:
        """Launch or adopt one. Needs a running event loop, on which its agent then runs."""
        answer = self._launch(request)
        outcome = type(answer).__name__ if isinstance(answer, ComputeError) else answer.instance_id
        self._note("launch", request.token, outcome)
        return answer

    def terminate(self, instance_ids: Iterable[str]) -> None:
        """End these. Raises `Throttled`."""
        self._maybe_throttle("terminate")
        for instance_id in instance_ids:
            machine = self._machines.get(instance_id)
            if machine is None or machine.is_terminated or not self._is_visible(machine):
                outcome = "not there"
            elif self._happens(self.faults.terminate_ignored):
                outcome = "accepted without effect"
            else:
                outcome = "accepted"
                self._stop(machine)
            self._note("terminate", instance_id, outcome)

    def describe(self, instance_ids: Iterable[str]) -> list[Instance]:
        """Return the visible ones of these. Raises `Throttled`."""
        self._maybe_throttle("describe")
        found = [self._machines[each] for each in instance_ids if each in self._machines]
        return [machine.instance for machine in found if self._is_visible(machine)]

    def has(self, instance_id: str) -> bool:
        """Return whether it has this instance, visible or not."""
        return instance_id in self._machines

    def list_instances(self, deployment: str) -> list[Instance]:
        """List the visible ones of a deployment. Raises `Throttled`."""
        self._maybe_throttle("list")
        self._forget_old()
        return [
            machine.instance
            for machine in self._machines.values()
            if machine.request.deployment == deployment and self._is_visible(machine)
        ]

    def offers(self) -> PricedOffers:
        """Return what it offers, at which price. No fault is drawn: the seed's order stays."""
        return offers_of(self._pools, self.faults)

    @property
    def living(self) -> int:
        """The number of instances that are not terminated."""
        return sum(self._used.values())

    # --- faults that a test triggers -------------------------------------------------------------

    def interrupt(self, instance_id: str, notice_seconds: float | None = None) -> None:
        """Interrupt an instance: notice now, the end after *notice_seconds*."""
        machine = self._machines[instance_id]
        if machine.is_terminated or machine.interrupted_at is not None:
            return
        seconds = self.faults.notice_seconds if notice_seconds is None else notice_seconds
        machine.interrupted_at = self._clock.now() + timedelta(seconds=seconds)
        if machine.notice is not None:
            machine.notice.set()
        reason = "Server.SpotInstanceTermination"
        machine.later("interrupted", self._clock, seconds, lambda: self._end(machine, reason))

    def kill_agent(self, instance_id: str) -> None:
        """Kill the agent; the machine and its container go on, up to the maximum lifetime."""
        machine = self._machines[instance_id]
        agent = machine.tasks.pop("agent", None)
        if agent is None or machine.is_terminated:
            return
        agent.cancel()
        seconds, reason = float(machine.request.max_lifetime_seconds), "maximum lifetime"
        machine.later("lifetime", self._clock, seconds, lambda: self._end(machine, reason))

    def run_dry(self, seconds: float) -> None:
        """Leave all pools without capacity for *seconds*."""
        until = self._clock.now() + timedelta(seconds=seconds)
        self._dry_until = dict.fromkeys(self._pools, until)

    async def close(self) -> None:
        """End the cloud: every agent ends without a callback."""
        tasks = [task for each in self._machines.values() for task in each.tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._api.close()

    # --- launching -------------------------------------------------------------------------------

    def _launch(self, request: LaunchRequest) -> Instance | ComputeError:
        if self._happens(self.faults.throttled):
            return Throttled("RequestLimitExceeded")
        instance_id = instance_id_of(request)
        known = self._machines.get(instance_id)
        if known is not None:
            mismatch = Rejected("IdempotentParameterMismatch")
            return known.instance if known.is_for(request) else mismatch
        if self.faults.quota is not None and sum(self._used.values()) >= self.faults.quota:
            return QuotaReached("MaxSpotInstanceCountExceeded")
        pool = self._pool()
        if pool is None:
            return NoCapacity("InsufficientInstanceCapacity")
        machine = self._create(request, instance_id, pool)
        lost = self._happens(self.faults.unknown_after_effect)
        return Unknown("the answer was lost") if lost else machine.instance

    def _pool(self) -> SimulatedPool | None:
        """Choose the cheapest pool that has room. The first may run dry just now."""
        now = self._clock.now()
        if self._happens(self.faults.no_capacity):
            self._dry_until[self._pools[0]] = now + timedelta(seconds=self.faults.dry_seconds)
            return None
        for pool in self._pools:
            limits = [each for each in (pool.capacity, self.faults.capacity) if each is not None]
            has_room = all(self._used[pool] < limit for limit in limits)
            if has_room and self._dry_until.get(pool, now) <= now:
                return pool
        return None

    def _create(
        self, request: LaunchRequest, instance_id: str, pool: SimulatedPool
    ) -> VirtualMachine:
        machine = VirtualMachine(request, instance_id, pool, self._clock.now())
        self._machines[instance_id] = machine
        self._used[pool] += 1
        self.truth.instances_by_token[request.token] += 1
        machine.start("agent", self._run(machine, request))
        self._draw_faults(machine)
        return machine

    def _draw_faults(self, machine: VirtualMachine) -> None:
        instance_id = machine.instance.instance_id
        if self._happens(self.faults.interrupted) and machine.instance.market == "spot":
            seconds = self._rng.uniform(0, self.faults.interrupted_within_seconds)
            machine.later("interruption", self._clock, seconds, lambda: self.interrupt(instance_id))
        if self._happens(self.faults.agent_death):
            seconds = self._rng.uniform(0, self.faults.agent_death_within_seconds)
            machine.later("death", self._clock, seconds, lambda: self.kill_agent(instance_id))

    # --- running ---------------------------------------------------------------------------------

    async def _run(self, machine: VirtualMachine, request: LaunchRequest) -> None:
        if self.faults.boot_seconds > 0:
            await self._clock.wait(asyncio.Event(), self.faults.boot_seconds)
        machine.show(state=InstanceState.RUNNING)
        machine.notice = asyncio.Event()
        if machine.interrupted_at is not None:
            machine.notice.set()
        instance_id = machine.instance.instance_id

        def started() -> None:
            self.truth.containers.append(machine.container_started(self._clock.now()))

        context = AgentContext(
            instance_id=instance_id,
            api=self._api,
            clock=self._clock,
            rng=random.Random(f"{self.faults.seed}/{instance_id}"),
            notice=machine.notice,
            interrupted_at=lambda: machine.interrupted_at,
            container_started=started,
            container_stopped=machine.container_stopped,
            pull_seconds=self.faults.pull_seconds,
        )
        try:
            await VirtualAgent(request, context).run()
        except Exception:  # noqa: BLE001 - a dead agent on a running machine: the reaper's task
            _log.exception("virtual agent died", instance=instance_id)
            machine.tasks.pop("agent", None)
            return
        machine.tasks.pop("agent", None)  # `_end` must not cancel this task
        self._end(machine, "Client.InstanceInitiatedShutdown")

    # --- ending ----------------------------------------------------------------------------------

    def _stop(self, machine: VirtualMachine) -> None:
        """Terminate: at once, or after a while in which it is STOPPING."""
        reason = "Client.UserInitiatedShutdown"
        if self.faults.stop_seconds <= 0:
            self._end(machine, reason)
        elif machine.instance.state is not InstanceState.STOPPING:
            machine.show(state=InstanceState.STOPPING, state_reason=reason)
            agent = machine.tasks.pop("agent", None)
            if agent is not None:
                agent.cancel()
            seconds = self.faults.stop_seconds
            machine.later("stop", self._clock, seconds, lambda: self._end(machine, reason))

    def _end(self, machine: VirtualMachine, reason: str) -> None:
        if machine.is_terminated:
            return
        now = self._clock.now()
        machine.show(
            state=InstanceState.TERMINATED,
            terminated_at=now,
            state_reason=reason,
            spot_interrupted=machine.interrupted_at is not None,
        )
        machine.container_stopped(now, None)
        machine.cancel_all()
        self._used[machine.pool] -= 1
        seconds = (now - machine.instance.launched_at).total_seconds()
        self.truth.billed_seconds += seconds
        self.truth.cost_usd += seconds / 3600 * machine.pool.hourly_price_usd
        instance_id = machine.instance.instance_id
        self._machines[instance_id] = self._machines.pop(instance_id)
        if len(self._machines) > 2 * RETAINED_COUNT + sum(self._used.values()):
            self._forget_old()

    def _forget_old(self) -> None:
        """Remove terminated ones that are too old or too many, and their tokens with them."""
        oldest = self._clock.now() - timedelta(seconds=RETAINED_SECONDS)
        ended = [machine for machine in self._machines.values() if machine.is_terminated]
        for index, machine in enumerate(ended):
            at = machine.instance.terminated_at
            if index < len(ended) - RETAINED_COUNT or (at is not None and at < oldest):
                del self._machines[machine.instance.instance_id]

    # --- chance, time and tasks ------------------------------------------------------------------

    def _happens(self, chance: float) -> bool:
        # A fault that is off draws nothing, so that turning one on does not change the others.
        return chance > 0 and self._rng.random() < chance

    def _maybe_throttle(self, name: str) -> None:
        if self._happens(self.faults.throttled):
            self._note(name, "", "Throttled")
            raise Throttled("RequestLimitExceeded")

    def _is_visible(self, machine: VirtualMachine) -> bool:
        hidden = timedelta(seconds=self.faults.invisible_seconds)
        return self._clock.now() >= machine.instance.launched_at + hidden

    def _note(self, name: str, subject: str, outcome: str) -> None:
        self.truth.calls.append(CallRecord(self._clock.now(), name, subject, outcome))
