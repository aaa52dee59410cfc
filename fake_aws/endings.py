"""The ends of instances: termination, stop, shutdown from within, Spot interruption."""

from datetime import UTC, datetime, timedelta
from typing import Any

from fake_aws.buckets import Limits
from fake_aws.errors import AwsError, invalid
from fake_aws.instance import OVER, Instance, State
from fake_aws.launching import Launching, post_console
from fake_aws.ledger import INTERRUPTED
from fake_aws.pools import Pools
from fake_aws.registry import Registry
from fake_aws.settings import CloudSettings
from fake_aws.spot import SpotRequests
from fake_aws.timers import Timers

Params = dict[str, Any]
BY_USER = "Client.UserInitiatedShutdown"
BY_ITSELF = "Client.InstanceInitiatedShutdown"


class Endings:
    """The calls and failures that end an instance."""

    def __init__(
        self,
        settings: CloudSettings,
        timers: Timers,
        pools: Pools,
        limits: Limits,
        spot: SpotRequests,
        registry: Registry,
        launching: Launching,
    ) -> None:
        self._settings = settings
        self._timers = timers
        self._pools = pools
        self._limits = limits
        self._spot = spot
        self._registry = registry
        self._launching = launching
        self.ignored_terminations = 0
        """The number of terminations to come that are accepted and have no effect."""

    def terminate(self, params: Params) -> Params:
        """TerminateInstances: end all of them, or none if one is unknown."""
        found = self._registry.named(params["InstanceIds"])
        self._limits.instances("TerminateInstances", len(found))
        changes = []
        for instance in found:
            before = instance.state
            if self.ignored_terminations and before not in OVER:
                self.ignored_terminations -= 1
                changes.append(_change(instance, before, State.SHUTTING_DOWN))
                continue
            self._end(instance, BY_USER, "User initiated shutdown", "User initiated")
            changes.append(_change(instance, before, instance.state))
        return {"TerminatingInstances": changes}

    def stop(self, params: Params) -> Params:
        """StopInstances. A Spot instance can be stopped only if its request is persistent."""
        found = self._registry.named(params["InstanceIds"])
        for instance in found:
            self._check_stoppable(instance)
        changes = []
        for instance in found:
            before = instance.state
            if before not in (State.STOPPING, State.STOPPED):
                self._stop(instance, BY_USER, "User initiated shutdown")
            changes.append(_change(instance, before, instance.state))
        return {"StoppingInstances": changes}

    def on_machine_off(self, instance_id: str) -> None:
        """Terminate or stop an instance that has powered itself off, by its shutdown behaviour."""
        instance = self._registry.all.get(instance_id)
        if instance is None or instance.state is not State.RUNNING:
            return
        text = "Instance initiated shutdown"
        if instance.plan.shutdown_behavior == "terminate":
            self._end(instance, BY_ITSELF, text, text)
        else:
            self._stop(instance, BY_ITSELF, text)

    def fail_launch(self, instance: Instance, code: str, message: str) -> None:
        """Terminate an instance that cannot be started."""
        self._end(instance, code, message, message)

    def interrupt(self, instance_id: str, *, notice: bool) -> datetime:
        """Interrupt a Spot instance, after the notice if there is one; return when."""
        instance = self._registry.one(instance_id)
        if not instance.spot_request:
            raise invalid(f"{instance_id} is no Spot instance")
        seconds = self._settings.notice_seconds if notice else 0.0
        at = datetime.now(UTC) + timedelta(seconds=self._timers.real(seconds))
        if notice:
            instance.interrupt_at = at
            self._spot.on_notice(instance.spot_request, *_spot_status(INTERRUPTED))
            self._registry.publish("interruption", instance, {"instance-action": "terminate"})
        self._timers.after(seconds, lambda: self._reclaim(instance))
        return at

    def rebalance(self, instance_id: str) -> None:
        """Recommend to leave the instance: the risk is raised, and no notice is promised."""
        instance = self._registry.one(instance_id)
        instance.rebalance_at = datetime.now(UTC)
        self._registry.publish("rebalance", instance, {})

    def _reclaim(self, instance: Instance) -> None:
        self._end(instance, INTERRUPTED, "Spot instance termination", "Service initiated")

    def _end(self, instance: Instance, code: str, message: str, transition: str) -> None:
        if instance.state in OVER:
            return
        had_place = instance.state not in (State.STOPPING, State.STOPPED)
        _explain(instance, code, message, transition)
        self._registry.enter(instance, State.SHUTTING_DOWN)
        self._halt(instance, give_back=had_place)
        status, text = _spot_status(code)
        again = self._spot.on_end(instance.spot_request, status, text)
        if again:
            self._timers.after(
                self._settings.respawn_seconds, lambda: self._launching.respawn(again)
            )
        self._timers.after(self._settings.shutting_down_seconds, lambda: self._terminated(instance))

    def _stop(self, instance: Instance, code: str, message: str) -> None:
        _explain(instance, code, message, "User initiated")
        self._registry.enter(instance, State.STOPPING)
        self._halt(instance, give_back=True)
        request = self._spot.by_id.get(instance.spot_request or "")
        if request:
            # A stop makes a Spot request persistent; its next instance has no tags.
            request.persistent = True
            request.state = "open"
            request.become("instance-stopped-by-user", "The instance was stopped by the user.")
            self._timers.after(
                self._settings.respawn_seconds, lambda: self._launching.respawn(request)
            )
        self._timers.after(self._settings.stopping_seconds, lambda: self._stopped(instance))

    def _stopped(self, instance: Instance) -> None:
        if instance.state is State.STOPPING:
            self._registry.enter(instance, State.STOPPED)

    def _halt(self, instance: Instance, *, give_back: bool) -> None:
        if give_back:
            self._pools.give_back(instance.plan.pool, instance.plan.kind.vcpus)
        if self._launching.machines is not None:
            self._launching.machines.kill(instance.id)

    def _terminated(self, instance: Instance) -> None:
        seconds = self._settings.console_posted_after_seconds
        self._timers.after(seconds, lambda: post_console(instance))
        self._registry.enter(instance, State.TERMINATED)
        seconds = self._settings.terminated_shown_seconds
        self._timers.after(seconds, lambda: self._registry.forget(instance))
        tags = self._timers.real(self._settings.terminated_tags_seconds)
        instance.loses_tags_at = datetime.now(UTC) + timedelta(seconds=tags)

    def _check_stoppable(self, instance: Instance) -> None:
        request = self._spot.by_id.get(instance.spot_request or "")
        if request and not request.persistent:
            raise AwsError(
                "UnsupportedOperation",
                f"You can't stop the Spot Instance '{instance.id}' because it is associated with "
                "a one-time Spot Instance request. You can only stop Spot Instances associated "
                "with persistent Spot Instance requests.",
            )
        if instance.state in OVER:
            raise AwsError(
                "IncorrectInstanceState",
                f"This instance '{instance.id}' is not in a state from which it can be stopped.",
            )


def _explain(instance: Instance, code: str, message: str, transition: str) -> None:
    now = datetime.now(UTC)
    instance.reason_code, instance.reason = code, f"{code}: {message}"
    instance.transition = f"{transition} ({now:%Y-%m-%d %H:%M:%S} GMT)"
    instance.ended_at = instance.ended_at or now


def _change(instance: Instance, before: State, after: State) -> Params:
    return {
        "InstanceId": instance.id,
        "PreviousState": before.shown(),
        "CurrentState": after.shown(),
    }


def _spot_status(code: str) -> tuple[str, str]:
    if code == INTERRUPTED:
        text = (
            "Your instance was terminated because there is no longer enough Spot capacity "
            "available for the instance."
        )
        return "instance-terminated-no-capacity", text
    return "instance-terminated-by-user", "The instance was terminated by the user."
