"""From a plan to an instance: its place in a pool, its Spot request, and when it boots."""

import ipaddress
import random
import secrets
from datetime import UTC, datetime, timedelta
from typing import Protocol

from fake_aws.errors import AwsError
from fake_aws.instance import Instance, Plan, State
from fake_aws.pools import Pools
from fake_aws.prices import Prices
from fake_aws.registry import Registry
from fake_aws.settings import CloudSettings
from fake_aws.spot import SpotRequest, SpotRequests
from fake_aws.timers import Timers

NETWORK = ipaddress.ip_network("10.0.0.0/8")


class Machines(Protocol):
    """What runs an instance's user data."""

    def start(self, instance: Instance) -> None:
        """Boot it. Answers at once."""
        ...

    def kill(self, instance_id: str) -> None:
        """End all that runs on it. Answers at once; that nothing does is no error."""
        ...


class Launching:
    """Launches instances, and has them run and boot in their own time."""

    def __init__(
        self,
        settings: CloudSettings,
        account: str,
        timers: Timers,
        pools: Pools,
        prices: Prices,
        spot: SpotRequests,
        registry: Registry,
    ) -> None:
        self._settings = settings
        self._account = account
        self._timers = timers
        self._pools = pools
        self._prices = prices
        self._spot = spot
        self._registry = registry
        self._delays = random.Random(f"{settings.seed} visibility")
        self._addresses = NETWORK.hosts()
        self.machines: Machines | None = None

    def launch(self, plan: Plan, reservation: str, *, max_price: float | None = None) -> Instance:
        """One instance more. Raises what EC2 says when it cannot be."""
        now = datetime.now(UTC)
        most = max_price if max_price is not None else plan.max_price
        if plan.market == "spot" and most is not None and most < self._prices.now(plan):
            raise AwsError(
                "SpotMaxPriceTooLow",
                f"Your Spot request price of {most} is lower than the minimum required Spot "
                f"request fulfillment price of {self._prices.now(plan)}.",
            )
        self._pools.take(plan.pool, plan.kind.vcpus)
        delay = self._delays.random() * self._settings.visible_after_seconds
        visible_at = now + timedelta(seconds=self._timers.real(delay))
        request = self._spot.open(plan, now, visible_at) if plan.market == "spot" else None
        return self._make(plan, reservation, visible_at, request, dict(plan.instance_tags))

    def room(self, plan: Plan) -> int | None:
        """How many more its pool has room for; None: any number."""
        return self._pools.room(plan.pool)

    def undo(self, instance: Instance) -> None:
        """A launch of several has failed as a whole: this one was never there."""
        del self._registry.all[instance.id]
        self._pools.give_back(instance.plan.pool, instance.plan.kind.vcpus)
        self._spot.by_id.pop(instance.spot_request or "", None)
        instance.state = State.TERMINATED  # its timers find nothing to do

    def respawn(self, request: SpotRequest) -> None:
        """A Spot request that asks again gets another instance, which nobody has tagged."""
        if request.state != "open":
            return
        try:
            self._pools.take(request.plan.pool, request.plan.kind.vcpus)
        except AwsError:
            self._timers.after(self._settings.respawn_seconds, lambda: self.respawn(request))
            return
        request.state, request.status = "active", "fulfilled"
        self._make(request.plan, new_id("r"), datetime.now(UTC), request, {})

    def _make(
        self,
        plan: Plan,
        reservation: str,
        visible_at: datetime,
        request: SpotRequest | None,
        tags: dict[str, str],
    ) -> Instance:
        instance = Instance(
            id=new_id("i"),
            plan=plan,
            reservation=reservation,
            owner=self._account,
            address=str(next(self._addresses)),
            launched_at=datetime.now(UTC),
            visible_at=visible_at,
            spot_request=request.id if request else None,
            volume=new_id("vol"),
            tags=tags,
        )
        if request:
            request.instance_id = instance.id
        self._registry.add(instance)
        self._timers.after(self._settings.pending_seconds, lambda: self._run(instance))
        return instance

    def _run(self, instance: Instance) -> None:
        if instance.state is State.PENDING:
            instance.running_at = datetime.now(UTC)
            self._registry.enter(instance, State.RUNNING)
            self._timers.after(self._settings.boot_seconds, lambda: self._boot(instance))

    def _boot(self, instance: Instance) -> None:
        if instance.state is State.RUNNING and self.machines is not None:
            self.machines.start(instance)


def new_id(kind: str) -> str:
    """An id as EC2 draws them."""
    return f"{kind}-{secrets.token_hex(9)[:17]}"
