"""`sim://?seed=7&…`: the compute port over a virtual cloud in this very process.

When the process dies, the virtual cloud is gone with all its instances: a restarted simulator knows
nothing of them, and the reaper then treats them as vanished. What it sells and what goes wrong in
it is in `faults.py`; the agents speak the real protocol (`virtual_agent.py`), so everything but the
cloud itself is real. Services in processes of their own share a cloud that is served
(`shared/compute/simulator/serve.py`).
"""

from collections.abc import Sequence

from shared.clock import Clock
from shared.compute.port import (
    ComputeError,
    Instance,
    LaunchBatch,
    LaunchRequest,
    Offer,
    Plan,
    Rejected,
)
from shared.compute.simulator.cloud import VirtualCloud
from shared.compute.simulator.faults import faults_of


class SimulatorCompute:
    """One deployment's view of a virtual cloud; several views of one cloud are several replicas."""

    name = "simulator"
    gathers = False

    def __init__(self, cloud: VirtualCloud, deployment: str, *, owns_cloud: bool = True) -> None:
        self.cloud = cloud
        self._deployment = deployment
        self._owns_cloud = owns_cloud

    @classmethod
    def from_url(cls, url: str, deployment: str, clock: Clock) -> "SimulatorCompute":
        """A view of a new cloud by a `sim://?…` URL. Raises ValueError that names what is wrong."""
        return cls(VirtualCloud(clock, faults_of(url)), deployment)

    async def plan(self, offer: Offer) -> Plan:  # noqa: ARG002 - the port's
        """Nothing to settle: a request says it all."""
        return {}

    async def launch(self, batch: LaunchBatch) -> Sequence[Instance | ComputeError]:
        """Launch or adopt; a terminated instance is answered as such and never started again."""
        return [self._launch(each) for each in batch.requests]

    async def terminate(self, instance_ids: Sequence[str]) -> None:
        """Cancel the virtual agents and end their instances, save where a fault is asked for."""
        self.cloud.terminate(instance_ids)

    async def describe(self, instance_ids: Sequence[str]) -> dict[str, Instance]:
        """The visible ones, the terminated too: for an hour, the last 10,000 of them."""
        return {each.instance_id: each for each in self.cloud.describe(instance_ids)}

    async def list_instances(self) -> Sequence[Instance]:
        """The visible ones of this deployment."""
        return self.cloud.list_instances(self._deployment)

    async def close(self) -> None:
        """End the cloud, if this view owns it: virtual instances cannot outlive their process."""
        if self._owns_cloud:
            await self.cloud.close()

    def _launch(self, request: LaunchRequest) -> Instance | ComputeError:
        if request.deployment != self._deployment:
            message = f"deployment {request.deployment!r} is not {self._deployment!r}"
            return Rejected(message)
        return self.cloud.launch(request)
