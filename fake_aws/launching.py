"""Launches: from a plan to an instance, with its capacity, its Spot request and its boot."""

import ipaddress
import random
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

from fake_aws.boot_faults import CONSOLES, PENDING, POWER_DOWN, WITHOUT_MACHINE, BootFaults
from fake_aws.errors import AwsError
from fake_aws.faults import Faults
from fake_aws.instance import Instance, Plan, State
from fake_aws.pools import Pools
from fake_aws.prices import Prices
from fake_aws.registry import Registry
from fake_aws.settings import CloudSettings
from fake_aws.spot import FULFILLED, SpotRequest, SpotRequests
from fake_aws.timers import Timers

NETWORK = ipaddress.ip_network("10.0.0.0/8")


class Machines(Protocol):
    """The machines that run the instances' user data."""

    def start(self, instance: Instance) -> None:
        """Begin to boot the instance."""
        ...

    def kill(self, instance_id: str) -> None:
        """Begin to end all that runs on the instance; nothing running is no error."""
        ...


class Launching:
    """Launches instances; each later enters running and boots."""

    def __init__(
        self,
        settings: CloudSettings,
        account: str,
        timers: Timers,
        pools: Pools,
        prices: Prices,
        spot: SpotRequests,
        registry: Registry,
        faults: Faults,
    ) -> None:
        self._settings = settings
        self._account = account
        self._timers = timers
        self._pools = pools
        self._prices = prices
        self._spot = spot
        self._registry = registry
        self._faults = faults
        self._delays = random.Random(f"{settings.seed} visibility")
        self._addresses = NETWORK.hosts()
        self.machines: Machines | None = None
        self.boot_faults = BootFaults()
        self.on_failed: Callable[[Instance, str, str], None] = lambda *_: None
        """Ends an instance that is pending, for a state reason and its message."""
        self.on_off: Callable[[str], None] = lambda _: None
        """Receives the id of an instance that powers itself off without a machine."""

    def launch(
        self,
        plan: Plan,
        reservation: str,
        *,
        max_price: float | None = None,
        shown_from: datetime | None = None,
    ) -> Instance:
        """Launch one instance, not visible before *shown_from*. Raises AwsError, EC2's refusal."""
        fault = self._faults.strike_pool(*plan.pool)
        if fault is not None:
            raise AwsError(fault.code, fault.message)
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
        visible_at = max(visible_at, shown_from or visible_at)
        request = self._spot.open(plan, now, visible_at) if plan.market == "spot" else None
        return self._make(plan, reservation, visible_at, request, dict(plan.instance_tags))

    def under_way_until(self, token: str) -> datetime | None:
        """Return until when the call with this client token is under way; None: it is over."""
        return self._faults.under_way_until(token)

    def room(self, plan: Plan) -> int | None:
        """Return the free capacity of the plan's pool, in instances; None: no limit."""
        return self._pools.room(plan.pool)

    def undo(self, instance: Instance) -> None:
        """Remove an instance of a launch that has failed as a whole."""
        del self._registry.all[instance.id]
        self._pools.give_back(instance.plan.pool, instance.plan.kind.vcpus)
        self._spot.by_id.pop(instance.spot_request or "", None)
        instance.state = State.TERMINATED  # its timers then have no effect

    def respawn(self, request: SpotRequest) -> None:
        """Launch a new instance for a persistent Spot request, without tags."""
        if request.state != "open":
            return
        try:
            self._pools.take(request.plan.pool, request.plan.kind.vcpus)
        except AwsError:
            self._timers.after(self._settings.respawn_seconds, lambda: self.respawn(request))
            return
        request.state = "active"
        request.become("fulfilled", FULFILLED)
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
            volume_ids=tuple(new_id("vol") for _ in plan.volumes),
            tags=tags,
        )
        if request:
            request.instance_id = instance.id
        self._registry.add(instance)
        self._timers.after(self._settings.pending_seconds, lambda: self._run(instance))
        return instance

    def _run(self, instance: Instance) -> None:
        if instance.state is not State.PENDING:
            return
        pool = instance.plan.pool
        kind = self.boot_faults.strike(instance.id, (pool.instance_type, pool.zone))
        if kind in PENDING:
            self.on_failed(instance, *PENDING[kind])
        else:
            instance.running_at = datetime.now(UTC)
            self._registry.enter(instance, State.RUNNING)
            self._timers.after(self._settings.boot_seconds, lambda: self._boot(instance))

    def _boot(self, instance: Instance) -> None:
        if instance.state is not State.RUNNING:
            return
        self._timers.after(self._settings.posted_seconds, lambda: self._post_start(instance))
        kind = self.boot_faults.of(instance.id)
        if kind in WITHOUT_MACHINE:
            instance.console += CONSOLES[kind]
            if kind == "power_off":
                seconds = self._settings.shutdown_seconds
                self._timers.after(seconds, lambda: self._power_down(instance))
        elif self.machines is not None:
            self.machines.start(instance)

    def _post_start(self, instance: Instance) -> None:
        """Post the console after the start, unless the end comes first: that has its own time."""
        if instance.state is State.RUNNING:
            post_console(instance)

    def _power_down(self, instance: Instance) -> None:
        if instance.state is State.RUNNING:
            instance.console += POWER_DOWN
            self.on_off(instance.id)


def post_console(instance: Instance) -> None:
    """Post the console so far."""
    instance.posted = instance.console


def new_id(kind: str) -> str:
    """Return a random id in EC2's form."""
    return f"{kind}-{secrets.token_hex(9)[:17]}"
