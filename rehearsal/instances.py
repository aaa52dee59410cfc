"""The instances of the account: launched, shown, ended, each in its own time.

A launch is not seen at once, a terminated instance is shown for a while, and then it is gone: EC2 is
eventually consistent, and whoever believes its first answer finds out here. Nothing in this file
waits; what happens later is a timer.
"""

import ipaddress
import random
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from rehearsal.buckets import Limits
from rehearsal.errors import AwsError, combination, invalid, malformed, not_found
from rehearsal.filters import matches, paginate
from rehearsal.instance import OVER, Instance, Plan, State
from rehearsal.later import Later
from rehearsal.ledger import INTERRUPTED
from rehearsal.pools import Pools
from rehearsal.prices import Prices
from rehearsal.settings import CloudSettings
from rehearsal.spot import SpotRequest, SpotRequests

Params = dict[str, Any]
USER_TERMINATED = "Client.UserInitiatedShutdown"
SELF_TERMINATED = "Client.InstanceInitiatedShutdown"


class Machines(Protocol):
    """What runs an instance's user data."""

    def start(self, instance: Instance) -> None:
        """Boot it. Answers at once."""
        ...

    def kill(self, instance_id: str) -> None:
        """End all that runs on it. Answers at once; that nothing does is no error."""
        ...


Tell = Callable[[str, Instance, Params], None]


class Instances:
    """Every instance of the account, and the calls on them."""

    def __init__(
        self,
        settings: CloudSettings,
        account: str,
        later: Later,
        pools: Pools,
        prices: Prices,
        limits: Limits,
        spot: SpotRequests,
    ) -> None:
        self._settings = settings
        self._account = account
        self._later = later
        self._pools = pools
        self._prices = prices
        self._limits = limits
        self._spot = spot
        self._delays = random.Random(f"{settings.seed} visibility")
        self._addresses = iter(ipaddress.ip_network("10.0.0.0/8").hosts())
        self.machines: Machines | None = None
        self.tell: Tell = _tell_nobody
        self.all: dict[str, Instance] = {}
        """All that were ever launched, the gone ones too: the ledger's."""
        self._gone: set[str] = set()
        self.deaf = 0
        """So many terminations to come are accepted and have no effect."""

    # -- launching ------------------------------------------------------------------------------------

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
        visible_at = now + timedelta(seconds=self._later.real(delay))
        request = self._spot.open(plan, now, visible_at) if plan.market == "spot" else None
        return self._make(plan, reservation, visible_at, request, dict(plan.instance_tags))

    def room(self, plan: Plan) -> int | None:
        """How many more its pool has room for; None: any number."""
        return self._pools.room(plan.pool)

    def undo(self, instance_id: str) -> None:
        """A launch of several has failed as a whole: this one was never there."""
        instance = self.all.pop(instance_id)
        self._pools.give_back(instance.plan.pool, instance.plan.kind.vcpus)
        self._spot.by_id.pop(instance.spot_request or "", None)
        instance.state = State.TERMINATED

    def _make(
        self,
        plan: Plan,
        reservation: str,
        visible_at: datetime,
        request: SpotRequest | None,
        tags: dict[str, str],
    ) -> Instance:
        instance = Instance(
            id=f"i-{secrets.token_hex(9)[:17]}",
            plan=plan,
            reservation=reservation,
            owner=self._account,
            address=str(next(self._addresses)),
            launched_at=datetime.now(UTC),
            visible_at=visible_at,
            spot_request=request.id if request else None,
            volume=f"vol-{secrets.token_hex(9)[:17]}",
            tags=tags,
        )
        if request:
            request.instance_id = instance.id
        self.all[instance.id] = instance
        self.tell("state", instance, {"state": "pending"})
        self._later(self._settings.pending_seconds, lambda: self._run(instance))
        return instance

    def _run(self, instance: Instance) -> None:
        if instance.state is not State.PENDING:
            return
        self._enter(instance, State.RUNNING)
        instance.running_at = datetime.now(UTC)
        self._later(self._settings.boot_seconds, lambda: self._boot(instance))

    def _boot(self, instance: Instance) -> None:
        if instance.state is State.RUNNING and self.machines is not None:
            self.machines.start(instance)

    # -- ending ---------------------------------------------------------------------------------------

    def terminate(self, params: Params) -> Params:
        """TerminateInstances: all of them, or none if one is unknown."""
        found = self._named(params["InstanceIds"])
        self._limits.instances("TerminateInstances", len(found))
        changes = []
        for instance in found:
            before = instance.state
            if self.deaf and before not in OVER:
                self.deaf -= 1
                changes.append(_change(instance, before, State.SHUTTING_DOWN))
                continue
            self.end(
                instance,
                USER_TERMINATED,
                "User initiated shutdown",
                transition="User initiated",
            )
            changes.append(_change(instance, before, instance.state))
        return {"TerminatingInstances": changes}

    def end(self, instance: Instance, code: str, message: str, *, transition: str) -> None:
        """It shuts down, for this reason; one that does already goes on doing so."""
        if instance.state in OVER:
            return
        now = datetime.now(UTC)
        stopped = instance.state is State.STOPPED
        instance.reason_code, instance.reason = code, f"{code}: {message}"
        instance.transition = f"{transition} ({now:%Y-%m-%d %H:%M:%S} GMT)"
        instance.ended_at = instance.ended_at or now
        self._enter(instance, State.SHUTTING_DOWN)
        self._halt(instance, give_back=not stopped)
        status, words = _spot_status(code)
        again = self._spot.on_end(instance.spot_request, status, words)
        if again:
            self._later(self._settings.respawn_seconds, lambda: self._respawn(again))
        self._later(self._settings.shutting_down_seconds, lambda: self._bury(instance))

    def on_machine_shutdown(self, instance_id: str) -> None:
        """The machine itself has powered off: what its shutdown behaviour says follows."""
        instance = self.all.get(instance_id)
        if instance is None or instance.state is not State.RUNNING:
            return
        message = "Instance initiated shutdown"
        if instance.plan.shutdown_behavior == "terminate":
            self.end(instance, SELF_TERMINATED, message, transition="Instance initiated shutdown")
        else:
            self._stop(instance, SELF_TERMINATED, message)

    def stop(self, params: Params) -> Params:
        """StopInstances. A Spot instance can be stopped only if its request is persistent."""
        found = self._named(params["InstanceIds"])
        for instance in found:
            if instance.spot_request and not self._spot.by_id[instance.spot_request].persistent:
                raise AwsError(
                    "UnsupportedOperation",
                    f"You can't stop the Spot Instance '{instance.id}' because it is associated "
                    "with a one-time Spot Instance request.",
                )
            if instance.state in OVER:
                raise AwsError(
                    "IncorrectInstanceState",
                    f"This instance '{instance.id}' is not in a state from which it can be stopped.",
                )
        changes = []
        for instance in found:
            before = instance.state
            if before not in (State.STOPPING, State.STOPPED):
                self._stop(instance, USER_TERMINATED, "User initiated shutdown")
            changes.append(_change(instance, before, instance.state))
        return {"StoppingInstances": changes}

    def _stop(self, instance: Instance, code: str, message: str) -> None:
        now = datetime.now(UTC)
        instance.reason_code, instance.reason = code, f"{code}: {message}"
        instance.transition = f"User initiated ({now:%Y-%m-%d %H:%M:%S} GMT)"
        instance.ended_at = now
        self._enter(instance, State.STOPPING)
        self._halt(instance, give_back=True)
        request = self._spot.by_id.get(instance.spot_request or "")
        if request:
            # A stop makes a Spot request persistent, and what it then brings nobody has tagged.
            request.persistent = True
            request.state, request.status = "open", "instance-stopped-by-user"
            self._later(self._settings.respawn_seconds, lambda: self._respawn(request))
        self._later(self._settings.stopping_seconds, lambda: self._stopped(instance))

    def _stopped(self, instance: Instance) -> None:
        if instance.state is State.STOPPING:
            self._enter(instance, State.STOPPED)

    def _halt(self, instance: Instance, *, give_back: bool) -> None:
        if give_back:
            self._pools.give_back(instance.plan.pool, instance.plan.kind.vcpus)
        if self.machines is not None:
            self.machines.kill(instance.id)

    def _bury(self, instance: Instance) -> None:
        self._enter(instance, State.TERMINATED)
        self._later(self._settings.terminated_shown_seconds, lambda: self._gone.add(instance.id))

    def _respawn(self, request: SpotRequest) -> None:
        if request.state != "open":
            return
        try:
            self._pools.take(request.plan.pool, request.plan.kind.vcpus)
        except AwsError:
            self._later(self._settings.respawn_seconds, lambda: self._respawn(request))
            return
        request.state, request.status = "active", "fulfilled"
        self._make(request.plan, f"r-{secrets.token_hex(9)[:17]}", datetime.now(UTC), request, {})

    def _enter(self, instance: Instance, state: State) -> None:
        instance.state = state
        self.tell("state", instance, {"state": state.words})

    # -- interruption ---------------------------------------------------------------------------------

    def interrupt(self, instance_id: str, *, notice: bool = True) -> datetime:
        """The cloud takes it back, after the notice. Answers when."""
        instance = self.one(instance_id)
        if not instance.spot_request:
            raise invalid(f"{instance_id} is no Spot instance")
        seconds = self._settings.notice_seconds if notice else 0.0
        at = datetime.now(UTC) + timedelta(seconds=self._later.real(seconds))
        if notice:
            instance.interrupt_at = at
            self.tell("interruption", instance, {"instance-action": "terminate"})
        self._later(
            seconds,
            lambda: self.end(
                instance,
                INTERRUPTED,
                "Spot instance termination",
                transition="Service initiated",
            ),
        )
        return at

    def rebalance(self, instance_id: str) -> None:
        """The cloud recommends to leave it: a raised risk, and no promise of a notice."""
        instance = self.one(instance_id)
        instance.rebalance_at = datetime.now(UTC)
        self.tell("rebalance", instance, {})

    # -- showing --------------------------------------------------------------------------------------

    def describe(self, params: Params) -> Params:
        """DescribeInstances."""
        ids = params.get("InstanceIds")
        if ids and "MaxResults" in params:
            raise combination(
                "The parameter instancesSet cannot be used with the parameter maxResults"
            )
        filters = params.get("Filters", [])
        found = self._named(ids) if ids else self.visible()
        found = [each for each in found if matches(filters, each.tags, each.filter_fields())]
        page, token = paginate(found, params, least=5)
        reservations: dict[str, Params] = {}
        for each in page:
            group = reservations.setdefault(
                each.reservation,
                {
                    "ReservationId": each.reservation,
                    "OwnerId": self._account,
                    "Groups": [],
                    "Instances": [],
                },
            )
            group["Instances"].append(each.shown(self._settings.region))
        return {"Reservations": list(reservations.values()), "NextToken": token}

    def describe_status(self, params: Params) -> Params:
        """DescribeInstanceStatus: of running ones, unless all are asked for."""
        ids = params.get("InstanceIds")
        found = self._named(ids) if ids else self.visible()
        if not params.get("IncludeAllInstances"):
            found = [each for each in found if each.state is State.RUNNING]
        filters = params.get("Filters", [])
        found = [each for each in found if matches(filters, each.tags, each.filter_fields())]
        page, token = paginate(found, params, least=5)
        shown = [
            {
                "InstanceId": each.id,
                "AvailabilityZone": each.plan.subnet.zone,
                "InstanceState": each.state.shown(),
                "InstanceStatus": {"Status": "ok", "Details": []},
                "SystemStatus": {"Status": "ok", "Details": []},
                "Events": [],
            }
            for each in page
        ]
        return {"InstanceStatuses": shown, "NextToken": token}

    def console(self, params: Params) -> Params:
        """GetConsoleOutput: what the machine has printed so far."""
        [instance] = self._named([params["InstanceId"]])
        return {
            "InstanceId": instance.id,
            "Timestamp": datetime.now(UTC),
            "Output": instance.console,
        }

    def shown(self, instance_id: str) -> Params:
        """One, as Describe shows it, visible or not."""
        return self.one(instance_id).shown(self._settings.region)

    def visible(self) -> list[Instance]:
        """What the cloud shows now, in the order of launching."""
        now = datetime.now(UTC)
        return [
            each
            for each in self.all.values()
            if each.visible_at <= now and each.id not in self._gone
        ]

    def one(self, instance_id: str) -> Instance:
        """The truth about one, visible or not. Raises AwsError."""
        if instance_id not in self.all:
            raise not_found("InvalidInstanceID", [instance_id])
        return self.all[instance_id]

    def named(self, instance_ids: list[str]) -> list[Instance]:
        """Those that a call names, each visible. Raises AwsError."""
        return self._named(instance_ids)

    def _named(self, ids: list[str]) -> list[Instance]:
        for each in ids:
            if not each.startswith("i-") or not _is_hex(each[2:]):
                raise malformed("InvalidInstanceID", each)
        now = datetime.now(UTC)
        known = {
            each: self.all[each]
            for each in ids
            if each in self.all and self.all[each].visible_at <= now and each not in self._gone
        }
        unknown = [each for each in ids if each not in known]
        if unknown:
            raise not_found("InvalidInstanceID", unknown)
        return list(known.values())


def _change(instance: Instance, before: State, after: State) -> Params:
    return {
        "InstanceId": instance.id,
        "PreviousState": before.shown(),
        "CurrentState": after.shown(),
    }


def _spot_status(code: str) -> tuple[str, str]:
    if code == INTERRUPTED:
        return (
            "instance-terminated-no-capacity",
            "Your instance was terminated because there is no longer enough Spot capacity "
            "available for the instance.",
        )
    return "instance-terminated-by-user", "The instance was terminated by the user."


def _is_hex(text: str) -> bool:
    return len(text) in (8, 17) and all(each in "0123456789abcdef" for each in text)


def _tell_nobody(_kind: str, _instance: Instance, _detail: Params) -> None:
    pass
